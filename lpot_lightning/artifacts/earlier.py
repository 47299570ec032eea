"""What earlier runs have left in a workspace, kept whole where another one begins."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from lpot_lightning.artifacts.storage import CONFIGURE, WEIGHTS, memory
from lpot_lightning.errors import ArtifactError
from lpot_lightning.machine.files import (
    TEMPORARY,
    make_folder,
    read_file,
    remove_file,
    sync_file,
    sync_folder,
)

EARLIER = "earlier"
"""The folder in a workspace that has a numbered one for each run that was there before."""
HISTORY, DEPLOY, RESULT, CHECKPOINT = (
    "history.jsonl",
    "deploy.yaml",
    "result.json",
    "best_quantized.ckpt",
)
REPORT, EXPORT_RECORDS = "report.html", "exports.json"
_KILLED = ("best_model_weights.previous.pt", "pruned_model_weights.previous.pt")
"""What the configuration still means where a run was killed between its two files."""
INT8 = (CONFIGURE, WEIGHTS, _KILLED[0], CHECKPOINT, HISTORY, RESULT, EXPORT_RECORDS, REPORT, DEPLOY)
PRUNED = (
    "pruned_configure.yaml",
    "pruned_model_weights.pt",
    _KILLED[1],
    "pruning_result.json",
    EXPORT_RECORDS,
    REPORT,
)
_BESIDES = (CHECKPOINT, RESULT, EXPORT_RECORDS, REPORT, DEPLOY)
_NO_MODEL = (*_BESIDES, *_KILLED)
_NUMBER = re.compile(r"[1-9]\d{0,8}", re.ASCII)


def keep_earlier(folder: Path, names: Iterable[str] = INT8) -> Path | None:
    """Keep the files of an earlier run in ``earlier/1``, ``earlier/2``, …, whole or not at all.

    They stay where they are, too, until the run that begins replaces them: what somebody has
    deployed from there is a model at any moment.

    Args:
        folder: the workspace.
        names: of the files.

    Returns:
        where they are kept; ``None`` where there is no model and no history.

    Raises:
        ArtifactError: if they cannot be kept; nothing was changed then.
    """
    found = [folder / name for name in names if (folder / name).is_file()]
    last = _last(folder / EARLIER)
    left = [one for one in found if not _is_kept(one, last)]
    if all(one.name in _NO_MODEL for one in left):
        return last if any(one.name not in _NO_MODEL for one in found) else None
    if not all(one.name in (*_NO_MODEL, HISTORY) for one in left):  # another model
        left = [one for one in found if not _is_left(one, last)]
    try:
        return _kept(left, folder / EARLIER)
    except OSError as error:
        raise ArtifactError(
            f"cannot keep the files of an earlier run in `{folder / EARLIER}`:"
            f" {error.strerror or error}; nothing of them was changed"
        ) from error


def is_kept_earlier(folder: Path, name: str, content: bytes) -> bool:
    """Whether the file ``name`` of the run before, as it is kept, has this content.

    Raises:
        ArtifactError: if the disk does not give it.
    """
    last = _last(folder / EARLIER)
    path = None if last is None else last / name
    return path is not None and path.is_file() and read_file(path, memory()) == content


def forget_besides(folder: Path, names: Iterable[str] = _BESIDES) -> None:
    """Remove what an earlier run, which is kept, has left beside its model.

    It would be taken for a part of the model that is written next.

    Args:
        folder: the workspace.
        names: of the files.
    """
    for name in names:
        if _is_kept(folder / name, _last(folder / EARLIER)):
            remove_file(folder / name)


def is_newer(one: Path, other: Path) -> bool:
    """Whether both files are there, and ``one`` was written later."""
    try:
        return one.stat().st_mtime_ns > other.stat().st_mtime_ns
    except OSError:  # it has just been renamed, or never was there
        return False


def _kept(files: Iterable[Path], earlier: Path) -> Path:
    make_folder(earlier)
    _sweep(earlier)
    made = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=earlier))
    os.chmod(made, earlier.stat().st_mode)
    for one in files:
        _link(one, made / one.name)
    sync_folder(made)
    last = _last(earlier)
    kept = earlier / str(1 if last is None else int(last.name) + 1)
    os.rename(made, kept)
    sync_folder(earlier)
    return kept


def _link(file: Path, copy: Path) -> None:
    """Give a file a second name: whoever writes it anew writes another one.

    Only a history is written on in place, by a run that goes on.
    """
    if file.name == HISTORY:
        _copy(file, copy)
        return
    try:
        os.link(file, copy)
    except OSError:  # not every file system has links
        _copy(file, copy)


def _copy(file: Path, copy: Path) -> None:
    """Copy a file, to last: the first one may be removed next."""
    shutil.copy2(file, copy)
    sync_file(copy)


def _is_kept(file: Path, last: Path | None) -> bool:
    if last is None or not file.is_file() or not (last / file.name).is_file():
        return False
    one, other = file.stat(), (last / file.name).stat()
    return os.path.samestat(one, other) or (
        one.st_size == other.st_size and file.read_bytes() == (last / file.name).read_bytes()
    )


def _is_left(file: Path, last: Path | None) -> bool:
    """Whether a file that is kept is still the same one, and not as another run wrote it again."""
    if last is None or not _is_kept(file, last):
        return False
    one, other = file.stat(), (last / file.name).stat()
    return os.path.samestat(one, other) or one.st_mtime_ns == other.st_mtime_ns


def _last(earlier: Path) -> Path | None:
    if not earlier.is_dir():
        return None
    numbers = [int(one.name) for one in earlier.iterdir() if _NUMBER.fullmatch(one.name)]
    return earlier / str(max(numbers)) if numbers else None


def _sweep(earlier: Path) -> None:
    """Remove what a killed run has left unfinished."""
    for one in earlier.iterdir():
        if one.name.startswith(TEMPORARY) and one.is_dir() and not one.is_symlink():
            shutil.rmtree(one)
