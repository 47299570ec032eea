"""The tune config: what is in it, and whether it can be believed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import ArtifactError, did_you_mean, in_short
from lpot_lightning.machine.files import read_file
from lpot_lightning.machine.plain_yaml import TooMuch, check_plain, read_plain_yaml
from lpot_lightning.module.fingerprint import content_hash
from lpot_lightning.quantization.backend import BACKENDS
from lpot_lightning.tuning.score import Criterion
from lpot_lightning.version import VERSION

OURS = "lpot_lightning/"
FORMAT = f"{OURS}1"
MAX_BYTES = 16 << 20
"""Of a tune config: that of 2,000 ops, with the channels that were cut, has 1 MB."""
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "backend": str,
    "engine": str,
    "reduce_range": bool,
    "parts": list,
    "op": dict,
    "fp32_model": dict,
    "weights": dict,
}
_PRUNED: dict[str, type | tuple[type, ...]] = {"fp32_model": dict, "weights": dict}
_PART = {"path": str, "wrapped": bool, "fixed": dict, "kept": list}
_SEALED = ("backend", "parts", "op", "fp32_model", "channels")
PRUNING = "pruning"
"""The ``approach`` of a model that was pruned and is still fp32."""


def heading(conf: Conf, approach: str) -> dict[str, Any]:
    """Return what every tune config says of itself: which model, how made, by which versions."""
    return {
        "framework": conf.model.framework,
        "model": conf.model.name,
        "approach": approach,
        "versions": {"lpot_lightning": VERSION, "torch": str(torch.__version__)},
    }


def verdict(monitor: str, criterion: Criterion, baseline: float, **found: Any) -> dict[str, Any]:
    """Return the ``accuracy`` of a tune config: what was asked for, and what was ``found``."""
    kind = "relative" if criterion.relative else "absolute"
    return {
        "monitor": monitor,
        "higher_is_better": criterion.higher_is_better,
        "criterion": {kind: criterion.goal},
        "baseline": baseline,
        **found,
    }


def read_configure(path: Path) -> dict[str, Any]:
    """Read and check a ``best_configure.yaml``.

    Raises:
        ArtifactError: if it is missing, no YAML, of another format or lacks a field.
    """
    return parse_configure(read_file(path, MAX_BYTES), path)


def parse_configure(content: bytes, path: Path) -> dict[str, Any]:
    """Check the content of a ``best_configure.yaml``, which was read from ``path``.

    Raises:
        ArtifactError: as ``read_configure`` does, but for a file that cannot be read.
    """
    try:
        found = read_plain_yaml(content)
    except Exception as error:  # PyYAML 6 gives five kinds of them for damaged files
        reason = in_short(error)
        raise ArtifactError(f"`{path}` is no readable tune config: {reason}") from error
    try:
        check_configure(found)
    except ArtifactError as error:
        raise ArtifactError(f"`{path}`: {error}") from error
    return cast(dict[str, Any], found)


def check_configure(found: object) -> None:
    """Raise ``ArtifactError`` unless ``found`` has the fields that ``rebuild`` reads."""
    try:
        check_plain(found)  # one of a checkpoint came by no YAML
    except TooMuch as error:
        raise ArtifactError(f"the tune config is not what was written: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        came = found.get("format") if isinstance(found, dict) else None
        came = came if isinstance(came, str) else type(found).__name__
        if came.startswith(OURS):
            raise ArtifactError(
                f"`format` is `{came[:60]}`, this version reads `{FORMAT}`: it is of"
                " another version of lpot_lightning: load it by that, or quantize the model again"
            )
        raise ArtifactError(
            f"`format` is `{came}`, this version reads `{FORMAT}`; an LPOT or Neural Compressor"
            " file cannot be read: quantize the model again"
        )
    pruned = found.get("approach") == PRUNING
    for field, kind in (_PRUNED if pruned else _FIELDS).items():
        if not isinstance(found.get(field), kind):
            raise ArtifactError(f"`{field}` is missing or no {getattr(kind, '__name__', kind)}")
    if not isinstance(found["weights"].get("sha256"), str):
        raise ArtifactError("`weights.sha256` is missing")
    if pruned:
        return
    if found["backend"] not in BACKENDS:
        raise ArtifactError(
            f"`backend` is `{found['backend']}`; this version has {', '.join(sorted(BACKENDS))}."
            + did_you_mean(str(found["backend"]), BACKENDS)
        )
    for part in found["parts"]:
        if not isinstance(part, dict) or not _fits(part, _PART):
            raise ArtifactError("each of `parts` needs `path`, `wrapped` and `fixed`")
    for name, op in found["op"].items():
        if not isinstance(op, dict) or not isinstance(op.get("activation"), dict):
            raise ArtifactError(f"op `{name}` needs `activation`")


def _fits(plain: Mapping[str, Any], fields: Mapping[str, type]) -> bool:
    return set(plain) == set(fields) and all(
        isinstance(plain[name], kind) for name, kind in fields.items()
    )


def check_hash(configure: Mapping[str, Any], plain: Mapping[str, Tensor]) -> None:
    """Raise ``ArtifactError`` unless the tensors are those that the tune config was written for."""
    if configure["weights"].get("content") != seal(configure, plain):
        raise ArtifactError(
            f"one of {', '.join(f'`{field}`' for field in _SEALED)}, or an int8 tensor, is not what"
            " was written: the file is damaged, was edited, or belongs to other weights"
        )


def seal(configure: Mapping[str, Any], plain: Mapping[str, Tensor]) -> str:
    """Return a hash over all that decides what the restored model computes."""
    sealed = {field: configure[field] for field in _SEALED if field in configure}
    return content_hash([sealed, dict(plain)])
