"""One run a workspace: a lock that the kernel frees."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import socket
import sys
import weakref
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from lpot_lightning.errors import ArtifactError, BusyError
from lpot_lightning.machine.files import open_folder
from lpot_lightning.machine.own_files import check_own_files
from lpot_lightning.machine.reading import open_regular

FILE = "lock"
_HOLDER = {"pid", "host", "since", "program"}
_BEGINS = b'{"pid": '
_MAX_BYTES = 4096
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class WorkspaceLock:
    """Keeps other runs out of a workspace, from ``acquire`` to ``release``.

    The kernel frees it when the process ends, however it ends; so does garbage collection. Forked
    children, such as the workers of a dataloader, do not hold it. The file ``lock`` stays where it
    is, and names the holder. Where somebody else has put a file that the run would write or
    replace, it is refused, and the file left as it is. Where Python has no ``fcntl`` (Windows)
    nobody is kept out.

    Args:
        folder: the workspace; it need not be there yet.

    Example::

        with WorkspaceLock(Path("lpot_workspace/pytorch_fx/digits")):
            ...  # a second run is refused, with the name of this one
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._handle: int | None = None
        self._written = b""
        self._end: weakref.finalize[[int], WorkspaceLock] | None = None

    def acquire(self) -> None:
        """Make the folder, lock it, and sweep what a killed run left unfinished.

        Raises:
            BusyError: if another run holds it, also one of this process.
            ArtifactError: if the folder cannot be written, its file system has no locks, or a file
                of somebody else is where one of ours goes.
        """
        open_folder(self.folder, sweep=False)
        check_own_files(self.folder)
        handle = _open(self.folder / FILE)
        self._end = weakref.finalize(self, os.close, handle)
        self._end.atexit = False  # the kernel is as quick
        self._handle = handle
        _mind_children()
        _held.add(self)
        try:
            _lock(handle, self.folder)
            _check_own(handle, self.folder / FILE)  # it may have been written since it was opened
            self._written = _write_holder(handle)
            open_folder(self.folder)
        except BaseException:
            self._close()
            raise

    def release(self) -> None:
        """Let others in; nothing happens if it is not held."""
        if self._handle is None:
            return
        with contextlib.suppress(OSError):  # the name of a holder that is gone would mislead
            if _content(self._handle) == self._written:
                os.truncate(self._handle, 0)
        _unlock(self._handle)
        self._close()

    def _close(self) -> None:
        """Close the file without unlocking it: a forked child shares the lock of its parent."""
        self._handle = None
        if self._end is not None:
            self._end()

    def __enter__(self) -> WorkspaceLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __reduce__(self) -> tuple[type[WorkspaceLock], tuple[Path]]:
        """Let a copy begin without the lock."""
        return WorkspaceLock, (self.folder,)


_held: weakref.WeakSet[WorkspaceLock] = weakref.WeakSet()


@functools.cache
def _mind_children() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_close_all)


def _close_all() -> None:
    """Close them in a forked child, which would hold them when its parent is gone."""
    for lock in list(_held):
        lock._close()
    _held.clear()


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    try:
        handle = open_regular(path, flags)
    except OSError as error:
        reason = "it is a link" if error.errno == errno.ELOOP else error.strerror or error
        raise ArtifactError(
            f"cannot write to the workspace: `{path}`: {reason};"
            " move it, or give another one in `tuning.workspace.path`"
        ) from error
    try:
        _check_own(handle, path)
    except ArtifactError:
        os.close(handle)
        raise
    return handle


def _check_own(handle: int, path: Path) -> None:
    """Refuse to write into what somebody else has written."""
    content = _content(handle).rstrip(b"\0")  # a machine that lost its power may have left zeros
    if not (_is_torn(content) or set(_read(content)) >= _HOLDER):
        raise ArtifactError(
            f"`{path}` is not what lpot_lightning writes, and the run would lock the workspace by"
            " it; move it, or give another folder in `tuning.workspace.path`"
        )


def _is_torn(content: bytes) -> bool:
    """Whether it is nothing, or the beginning of what we write: a run may be killed at it."""
    begins = content.startswith(_BEGINS) or _BEGINS.startswith(content)
    return begins and not _read(content) and b"\n" not in content and len(content) <= _MAX_BYTES


def _content(handle: int) -> bytes:
    os.lseek(handle, 0, os.SEEK_SET)
    return os.read(handle, _MAX_BYTES + 1)


def _read(content: bytes) -> dict[str, Any]:
    """Return the holder that is named, or nothing if it is none."""
    try:
        found = json.loads(content) if len(content) <= _MAX_BYTES else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _lock(handle: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise ArtifactError(
                f"the file system of the workspace `{folder}` has no locks ({error.strerror}), and"
                " two runs at once would spoil it; give one on a local disk in"
                " `tuning.workspace.path`"
            ) from error
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise ArtifactError(
                f"cannot lock the workspace `{folder}`: {error.strerror or error};"
                " give another one in `tuning.workspace.path`"
            ) from error
        raise BusyError(
            f"the workspace `{folder}` is used by {_holder(handle)}; wait for it, or give another"
            " one in `tuning.workspace.path`"
        ) from error


def _unlock(handle: int) -> None:
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(handle, fcntl.LOCK_UN)


def _write_holder(handle: int) -> bytes:
    """Write who holds the lock, as a whole or not at all, and return what was written."""
    name = Path(sys.argv[0]).name if sys.argv else ""
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "program": name[:255],  # no arguments: they may hold a password
    }
    line = json.dumps(holder).encode() + b"\n"
    with contextlib.suppress(OSError):  # on a full disk the lock holds, without a name
        os.truncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        if os.write(handle, line) == len(line):
            return line
        os.truncate(handle, 0)
    return b""


def _holder(handle: int) -> str:
    """Return who wrote his name into the file, as far as it can be read."""
    try:
        found = _read(_content(handle))
        who = f"process {int(found['pid'])} on host {found['host']}"
        if (found["pid"], found["host"]) == (os.getpid(), socket.gethostname()):
            who = "another run of this process"
        program = f" ({found['program']})" if found["program"] else ""
        return f"{who} since {found['since']}{program}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another run"
