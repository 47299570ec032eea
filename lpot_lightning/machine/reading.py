"""Reading what anybody may have put there: regular files, and no more of them than is allowed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lpot_lightning.errors import ArtifactError
from lpot_lightning.machine.numbers import shown_size

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a link",
}


def regular_bytes(path: Path, most: int) -> bytes:
    """Return what is in a regular file, or in the one that a link leads to.

    Args:
        path: the file.
        most: how many bytes are allowed.

    Raises:
        OSError: if it cannot be read, is something else, which is not waited for, or is larger; its
            ``strerror`` says so.
    """
    handle = open_regular(path)
    with os.fdopen(handle, "rb") as file:
        size = os.fstat(handle).st_size
        if size > most:
            raise too_large(size, most)
        try:
            content = file.read(size + 1)  # `most + 1` would be set aside for a small file, too
            if len(content) > size:  # it has grown
                content += file.read(most + 1 - len(content))
        except MemoryError as error:
            raise OSError(errno.ENOMEM, f"its {_shown(size)} do not fit into memory") from error
    if len(content) > most:
        raise too_large(len(content), most)
    return content


@contextmanager
def looking_at(path: str | os.PathLike[str]) -> Iterator[None]:
    """Tell people of a path that the system lets nobody look at, as without permission.

    Raises:
        ArtifactError: in the place of an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise ArtifactError(f"cannot look into `{os.fspath(path)}`: {reason}") from error


def open_regular(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a regular file and return its descriptor; a FIFO is not waited for.

    Raises:
        OSError: if it cannot be opened, or is something else.
    """
    # A FIFO would wait for its other end, and a terminal become that of this process.
    careful = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC"))
    handle = os.open(path, flags | careful | getattr(os, "O_BINARY", 0), 0o666)
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise not_regular(mode)
    return handle


def not_regular(mode: int) -> OSError:
    """Return the error for something that is no regular file."""
    return OSError(errno.EINVAL, f"it is {file_kind(mode)}; allowed: a regular file")


def file_kind(mode: int) -> str:
    """Return what the ``st_mode`` of something stands for, for people."""
    return _KINDS.get(stat.S_IFMT(mode), "a file")


def too_large(size: int, most: int) -> OSError:
    """Return the error for a file that is larger than ``most``."""
    return OSError(errno.EFBIG, f"it has {_shown(size)}; allowed: {_shown(most)}")


def _shown(size: int) -> str:
    return shown_size(size, binary=True)  # as limits are, which are powers of two


def without_tilde(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` with the home folder in the place of ``~``.

    Raises:
        OSError: if there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise OSError(errno.ENOENT, "there is no such user, or no home folder") from error
