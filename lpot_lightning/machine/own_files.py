"""Which files of a workspace are ours to replace."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from lpot_lightning.errors import ArtifactError
from lpot_lightning.machine.plain_yaml import read_plain_yaml
from lpot_lightning.machine.reading import file_kind, regular_bytes

MAX_BYTES = 256 << 20
"""As much as a `result.json` may have; what is larger is not ours."""
_DEPLOY = {"version", "model", "device", "evaluation"}
_JUDGED = {"status", "monitor", "criterion", "baseline", "accuracy"}
_FORMAT = re.compile(rb"""^format: *['"]?lpot_lightning/""", re.MULTILINE)


def check_own_files(folder: Path) -> None:
    """Refuse a workspace in which a run would replace what somebody else has put there.

    What has one of our names and is empty, or is ours by its keys, of whatever version, may be
    replaced. Weights cannot be told apart that way: who writes them sets others aside.

    Raises:
        ArtifactError: naming the file, what would happen to it, and what to do.
    """
    for name, is_ours in _OURS.items():
        path = folder / name
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _refused(path, error.strerror or str(error)) from error
        if not stat.S_ISREG(mode):
            raise _refused(path, f"is {file_kind(mode)}")
        if not _is_ours(path, is_ours):
            raise _refused(path, "is not what lpot_lightning writes")


def _refused(path: Path, what: str) -> ArtifactError:
    return ArtifactError(
        f"`{path}` {what}, and the run would replace it; move it, or give another folder in"
        " `tuning.workspace.path`"
    )


def _is_ours(path: Path, is_ours: Callable[[bytes], bool]) -> bool:
    if is_ours is _anything:
        return True
    try:
        content = regular_bytes(path, MAX_BYTES)
    except OSError:  # ours can be read, and are not that large
        return False
    return not content or is_ours(content)


def _anything(content: bytes) -> bool:
    return True


def _is_result(content: bytes) -> bool:
    return _keys(content, json.loads) >= _JUDGED


def _is_deploy(content: bytes) -> bool:
    """Whether it is LPOT's, too: both hold what a benchmark needs, and nothing else."""
    keys = _keys(content, read_plain_yaml)
    return "model" in keys and keys <= _DEPLOY


def _is_configure(content: bytes) -> bool:
    return _FORMAT.search(content) is not None  # to parse a large one takes seconds


def _is_report(content: bytes) -> bool:
    return b"lpot_lightning report" in content


def _is_record(content: bytes) -> bool:
    return "exports" in _keys(content, json.loads)


def _keys(content: bytes, read: Callable[[bytes], Any]) -> set[Any]:
    try:
        found = read(content)
    except (ValueError, RecursionError, yaml.YAMLError):
        return set()
    return set(found) if isinstance(found, dict) else set()


_OURS: dict[str, Callable[[bytes], bool]] = {
    "result.json": _is_result,
    "pruning_result.json": _is_result,
    "report.html": _is_report,
    "exports.json": _is_record,
    "deploy.yaml": _is_deploy,
    "best_configure.yaml": _is_configure,
    "pruned_configure.yaml": _is_configure,
    "history.jsonl": _anything,  # it is read, and refused, before anything is added to it
    "best_model_weights.pt": _anything,
    "best_model_weights.previous.pt": _anything,
    "pruned_model_weights.pt": _anything,
    "pruned_model_weights.previous.pt": _anything,
    "best_quantized.ckpt": _anything,
}
"""How each file is known."""
