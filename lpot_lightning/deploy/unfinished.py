"""The folder in which a file lies until it is good, and what killed exports have left in theirs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lpot_lightning.deploy.options import form_of
from lpot_lightning.errors import ArtifactError, ConfError, ExportError
from lpot_lightning.machine.files import TEMPORARY, make_folder, sync_folder

PREFIX = f"{TEMPORARY}export-"
BEFORE = "before"
"""The folder in it of the files that are being replaced, where one export has several."""


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """Yield where a file is written until it is good: in a folder beside ``path``, of its name.

    Folders of exports that were killed are removed, and files that they had taken away put back.

    Raises:
        ExportError: if nothing can be written there.
    """
    try:
        make_folder(path.parent)
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        _sweep(path.parent)
        folder, handle = _claimed(path.parent)
    except OSError as error:
        raise ExportError(f"cannot write `{path}`: {error.strerror or error}") from error
    try:
        yield folder / path.name
    except (ArtifactError, ExportError) as error:  # they name a file that nobody gets to see
        told = str(error).replace(str(folder), str(path.parent))
        raise ExportError(told) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _claimed(parent: Path) -> tuple[Path, int]:
    """Make a folder and lock it; the kernel frees it when the process ends, however it ends."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        handle = os.open(folder, os.O_RDONLY)
        _lock(handle)
        if _is_there(folder, handle):
            return folder, handle
        os.close(handle)  # somebody has swept between the two


def _is_there(folder: Path, handle: int) -> bool:
    return folder.is_dir() and os.path.samestat(folder.stat(), os.fstat(handle))


def _lock(handle: int) -> bool:
    """Lock what is open, and say whether that went; nobody waits."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):  # in use, or without locks here: it is left alone
        return False
    return True


def _sweep(parent: Path) -> None:
    for one in list(parent.iterdir()):
        if one.name.startswith(PREFIX) and one.is_dir() and not one.is_symlink():
            _end(one)


def _end(left: Path) -> None:
    """Put back what a killed export had taken away, and remove its folder."""
    with suppress(FileNotFoundError):  # another one ends it, too
        handle = os.open(left, os.O_RDONLY)
        try:
            if _lock(handle):
                _put_back(left / BEFORE, left.parent)
                shutil.rmtree(left)
        finally:
            os.close(handle)


def _put_back(before: Path, folder: Path) -> None:
    """Move files back if the main one of them was not replaced: that is moved last."""
    files = sorted(before.iterdir(), key=_is_main) if before.is_dir() else []
    if any((folder / one.name).exists() for one in files if _is_main(one)):
        return
    for one in files:
        os.replace(one, folder / one.name)
    sync_folder(folder)


def _is_main(path: Path) -> bool:
    """Whether it is the file by which a model is opened, and not one beside it."""
    try:
        form_of(path)
    except ConfError:
        return False
    return True
