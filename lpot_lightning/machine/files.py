"""One way to write a file: whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import tempfile
from pathlib import Path

from lpot_lightning.errors import ArtifactError
from lpot_lightning.machine.reading import file_kind, regular_bytes, without_tilde

TEMPORARY = ".lpot-"
"""How the names of unfinished files begin."""
_UNFINISHED = re.compile(re.escape(TEMPORARY) + "[a-z0-9_]{8}")  # as `tempfile` makes them
_SHOWN = 60
MAX_TEXT = 256 << 20
"""Bytes of a text of ours: a `result.json` of 500 trials of 1,000 ops has some 100 MB."""


def read_file(path: Path, most: int = MAX_TEXT) -> bytes:
    """Return what is in the regular file at ``path``, or in the one that a link leads to.

    Args:
        path: the file.
        most: how many bytes are allowed.

    Raises:
        ArtifactError: if it cannot be read, is a folder, a FIFO or the like, or is larger.
    """
    try:
        return regular_bytes(path, most)
    except (OSError, ValueError) as error:  # a name with a null byte
        reason = getattr(error, "strerror", None) or error
        raise ArtifactError(f"cannot read `{path}`: {reason}") from error


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` with the home folder in the place of ``~``.

    Raises:
        ArtifactError: if it is no path, is too long for one, or there is no such user.
    """
    try:
        return without_tilde(checked_path(path))
    except OSError as error:
        raise ArtifactError(f"cannot open `{os.fspath(path)}`: {error.strerror}") from error


def checked_path(path: object) -> str:
    """Return a path as a text, if it can be one of a file.

    Raises:
        ArtifactError: if it is none, as bytes are, or is too long.
    """
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        raise ArtifactError(f"a path is a `{type(path).__name__}`; allowed: a text or a `Path`")
    with contextlib.suppress(ValueError):  # of a null byte: who opens it says so
        try:
            os.lstat(text)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                reason = f"cannot open `{text[:_SHOWN]}…{text[-_SHOWN:]}`: {error.strerror}"
                raise ArtifactError(reason) from error
    return text


def shown(path: Path) -> str:
    """Return ``path`` for people: as seen from the current folder, where it lies in it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def write_file(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``; a kill at any moment leaves the old file or the new one.

    Raises:
        ArtifactError: if the file cannot be written; the old one is still there.
    """
    try:
        replace_file(path, content)
    except OSError as error:
        raise ArtifactError(f"cannot write `{path}`: {error.strerror or error}") from error


def remove_file(path: Path) -> None:
    """Remove ``path`` where it is there.

    Raises:
        ArtifactError: if it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ArtifactError(f"cannot remove `{path}`: {error.strerror or error}") from error


def set_aside(path: Path) -> Path:
    """Rename ``path`` to the next free ``name.1.ext``, ``name.2.ext``, …; return the new path.

    Raises:
        OSError: if it cannot be renamed.
    """
    number = 1
    while os.path.lexists(kept := path.with_name(f"{path.stem}.{number}{path.suffix}")):
        number += 1
    os.rename(path, kept)
    sync_folder(path.parent)
    return kept


def rename_aside(path: Path) -> Path:
    """Do what ``set_aside`` does, for callers without an error of their own.

    Raises:
        ArtifactError: if it cannot be renamed.
    """
    try:
        return set_aside(path)
    except OSError as error:
        raise ArtifactError(f"cannot rename `{path}`: {error.strerror or error}") from error


def replace_file(path: Path, content: bytes) -> None:
    """Do what ``write_file`` does, for callers with an error of their own.

    A temporary file in the same folder is written and synced, renamed, and the folder synced.

    Raises:
        OSError: if the file cannot be written; the old one is still there.
    """
    handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Make last what somebody else has written to ``path``.

    Raises:
        OSError: if the disk does not keep it.
    """
    # Windows syncs what is open for writing; a file of another mode than ours is only read.
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` last."""
    if os.name == "nt":  # Windows cannot open a folder to sync it.
        return
    sync_file(folder)


def sha256(content: bytes) -> str:
    """Return the SHA-256 of ``content`` in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def open_folder(
    folder: Path,
    *,
    sweep: bool = True,
    kind: str = "workspace",
    place: str = "in `tuning.workspace.path`",
) -> None:
    """Create ``folder``, prove that it can be written and sweep unfinished files out.

    Args:
        folder: the folder.
        sweep: whether nobody else writes there now, so that what is unfinished stays so.
        kind: what it is for the user, for errors.
        place: where the user names it, for errors.

    Raises:
        ArtifactError: if it cannot be created or written.
    """
    try:
        _check_place(folder)
        make_folder(folder)
        if sweep:
            _sweep(folder)
        with tempfile.TemporaryFile(prefix=TEMPORARY, dir=folder):
            pass
    except (OSError, ValueError) as error:  # a name with a null byte
        reason = getattr(error, "strerror", None) or error
        raise ArtifactError(
            f"cannot write to the {kind} `{folder}`: {reason}; give another one {place}"
        ) from error


def make_folder(folder: Path) -> None:
    """Make ``folder`` and those above it, where they are not there, to last as their files do.

    Raises:
        OSError: if it cannot be made.
    """
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in missing:
        with contextlib.suppress(PermissionError):  # a folder in which one may only make others
            sync_folder(one.parent)


def _check_place(folder: Path) -> None:
    """Say what is there if it is no folder: ``mkdir`` says `File exists` of all of it."""
    if folder.is_dir():
        return
    if folder.is_symlink():
        raise OSError(errno.ENOTDIR, f"it is a link to `{os.readlink(folder)}`, which is no folder")
    if os.path.lexists(folder):
        raise OSError(errno.ENOTDIR, f"it is {file_kind(folder.lstat().st_mode)}, and no folder")


def _sweep(folder: Path) -> None:
    """Remove what ``replace_file`` of a killed process has left, and nothing that is like it."""
    for entry in list(os.scandir(folder)):
        if _UNFINISHED.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
            Path(entry.path).unlink(missing_ok=True)


def _umask() -> int:
    """Return the process's umask; there is no way to read it without setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
