"""One way to write a file: whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from lpot_lightning.errors import ArtifactError

TEMPORARY = ".lpot-"
"""How the names of unfinished files begin."""


def read_file(path: Path) -> bytes:
    """Return what is in ``path``.

    Raises:
        ArtifactError: if it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read `{path}`: {error.strerror}") from error


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


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` last."""
    if os.name == "nt":  # Windows cannot open a folder to sync it.
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(content: bytes) -> str:
    """Return the SHA-256 of ``content`` in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def open_folder(folder: Path, *, sweep: bool = True) -> None:
    """Create ``folder``, prove that it can be written and sweep unfinished files out.

    Args:
        folder: the folder.
        sweep: whether nobody else writes there now, so that what is unfinished stays so.

    Raises:
        ArtifactError: if it cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(f"{TEMPORARY}*") if sweep else ():
            leftover.unlink(missing_ok=True)
        with tempfile.TemporaryFile(prefix=TEMPORARY, dir=folder):
            pass
    except OSError as error:
        raise ArtifactError(
            f"cannot write to the workspace `{folder}`: {error.strerror or error};"
            " give another one in `tuning.workspace.path`"
        ) from error


def _umask() -> int:
    """Return the process's umask; there is no way to read it without setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
