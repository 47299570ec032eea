"""The calls of a process that change files: counted, seen, and met by a fault."""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BY_ONE_PATH = ("chmod", "truncate", "unlink", "remove", "mkdir", "rmdir")
_BY_TWO_PATHS = ("replace", "rename", "link")
_BY_HANDLE = ("fsync", "fdatasync", "ftruncate")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
ROOM = frozenset({"open", "write", "fsync", "mkdir", "link"})
"""The calls that a full disk lets fail."""


@dataclass(frozen=True, kw_only=True)
class FileCall:
    """One call that changes a file.

    Args:
        number: counted from 1.
        name: of the function in ``os``.
        path: of the file, where that is known.
        other: of a second file, as it is called afterwards.
        content: what is written.
        handle: of the open file, if there is one.
        size: that it is cut to.
        half: does a half of it, where that can be.
        created: whether a file is opened that was not there, or is emptied.
    """

    number: int
    name: str
    path: str
    other: str = ""
    content: bytes = b""
    handle: int | None = None
    size: int = 0
    created: bool = False
    half: Callable[[], object] = field(default=lambda: None, compare=False)


Met = Callable[[FileCall], object]
"""Takes a call, before it is made or after."""


def _nothing(_: FileCall) -> None:
    """Let it be."""


class KilledAt:
    """Kills the process at a call, with a half of it done.

    Args:
        number: of the call.
    """

    def __init__(self, number: int) -> None:
        self._number = number

    def __call__(self, call: FileCall) -> None:
        if call.number == self._number:
            call.half()
            os.kill(os.getpid(), signal.SIGKILL)


class FailingAt:
    """Lets a call fail, with a half of it done, and those after it, if that lasts.

    Args:
        number: of the first call that fails.
        code: of the error, such as ``errno.ENOSPC``.
        lasts: whether the disk stays as it is.
    """

    def __init__(self, number: int, code: int, *, lasts: bool = False) -> None:
        self._number, self._code, self._lasts = number, code, lasts
        self.failed: list[FileCall] = []

    def __call__(self, call: FileCall) -> None:
        if self._is_struck(call):
            self.failed.append(call)
            call.half()
            raise OSError(self._code, os.strerror(self._code), call.path)

    def _is_struck(self, call: FileCall) -> bool:
        if call.number == self._number:
            return True
        needs = call.name in ROOM or self._code == errno.EROFS
        return self._lasts and bool(self.failed) and needs


class FileCalls:
    """Stands before the functions that change files, in a process that is made to be spoilt.

    Python's own files are covered, too, where they are opened for bytes; what a library writes in
    C++ is not.

    Args:
        folders: only what lies in them counts.
        before: takes each call before it is made.
        after: takes each call that was made.

    Example::

        FileCalls([folder], KilledAt(17)).patch()
    """

    def __init__(self, folders: list[Path], before: Met = _nothing, after: Met = _nothing) -> None:
        self._folders = [os.path.realpath(one) for one in folders]
        self._before, self._after = before, after
        self._paths: dict[int, str] = {}
        self.count = 0
        self.begun = True

    def patch(self) -> None:
        """Begin, for as long as the process lives."""
        self._open_handle = os.open
        for name in _BY_ONE_PATH:
            setattr(os, name, self._by_path(name, getattr(os, name)))
        for name in _BY_TWO_PATHS:
            setattr(os, name, self._by_paths(name, getattr(os, name)))
        for name in _BY_HANDLE:
            if hasattr(os, name):
                setattr(os, name, self._by_handle(name, getattr(os, name)))
        self._patch_files()

    def _patch_files(self) -> None:
        os.write = self._writing(os.write)
        os.open = self._opening(os.open)
        os.fdopen = self._fdopening(os.fdopen)
        builtins.open = io.open = self._file_opening(builtins.open)

    def meet(self, make: Callable[[], Any], name: str, path: str, **of_it: Any) -> Any:
        """Make a call, if nothing comes between."""
        if not (self.begun and self._is_ours(path)):
            return make()
        self.count += 1
        call = FileCall(number=self.count, name=name, path=path, **of_it)
        self._before(call)
        made = make()
        if isinstance(made, int) and call.name == "open":
            call = FileCall(
                number=call.number, name=name, path=path, handle=made, created=call.created
            )
        self._after(call)
        return made

    def _is_ours(self, path: str) -> bool:
        return any(path == one or path.startswith(one + os.sep) for one in self._folders)

    def _path(self, given: Any, folder: int | None = None) -> str:
        if isinstance(given, int):
            return self._paths.get(given, "")
        path = os.fsdecode(given)
        if folder is not None:
            path = os.path.join(self._paths.get(folder, ""), path)
        parent, name = os.path.split(os.path.abspath(path))
        return os.path.join(os.path.realpath(parent), name)  # the last part may be a link itself

    def _by_path(self, name: str, call: Any) -> Any:
        def counted(path: Any, *given: Any, **named: Any) -> Any:
            size = given[0] if name == "truncate" else 0
            return self.meet(
                lambda: call(path, *given, **named),
                "unlink" if name == "remove" else name,
                self._path(path, named.get("dir_fd")),
                size=size,
                handle=path if isinstance(path, int) else None,
            )

        return counted

    def _by_paths(self, name: str, call: Any) -> Any:
        def counted(one: Any, other: Any, **named: Any) -> Any:
            return self.meet(
                lambda: call(one, other, **named),
                name,
                self._path(one, named.get("src_dir_fd")),
                other=self._path(other, named.get("dst_dir_fd")),
            )

        return counted

    def _by_handle(self, name: str, call: Any) -> Any:
        def counted(handle: Any, *given: Any) -> Any:
            number = handle if isinstance(handle, int) else handle.fileno()
            size = given[0] if given else 0
            path = self._paths.get(number, "")
            return self.meet(lambda: call(handle, *given), name, path, handle=number, size=size)

        return counted

    def _writing(self, call: Any) -> Any:
        def counted(handle: int, content: Any) -> Any:
            return self.write(handle, content, lambda part: call(handle, part))

        return counted

    def write(self, handle: int, content: Any, make: Callable[[Any], Any]) -> Any:
        """Write to an open file, if nothing comes between."""
        whole = bytes(content)
        return self.meet(
            lambda: make(content),
            "write",
            self._paths.get(handle, ""),
            handle=handle,
            content=whole,
            half=lambda: make(whole[: len(whole) // 2]),
        )

    def _opening(self, call: Any) -> Any:
        def counted(path: Any, flags: int, *given: Any, **named: Any) -> int:
            found = self._path(path, named.get("dir_fd"))

            def make() -> int:
                handle: int = call(path, flags, *given, **named)
                self._paths[handle] = found
                return handle

            if not flags & _WRITING:
                return make()
            created = bool(flags & os.O_TRUNC) or not os.path.lexists(found)
            opened: int = self.meet(make, "open", found, created=created)
            return opened

        return counted

    def _fdopening(self, call: Any) -> Any:
        def opened(handle: int, mode: str = "r", *given: Any, **named: Any) -> Any:
            if given or named or not self._is_watched(mode, self._paths.get(handle, "")):
                return call(handle, mode, *given, **named)
            return _buffered(_WatchedFile(self, handle, mode))

        return opened

    def _file_opening(self, call: Any) -> Any:
        def opened(file: Any, mode: str = "r", *given: Any, **named: Any) -> Any:
            path = self._path(file) if isinstance(file, str | bytes | os.PathLike) else ""
            if given or named or not self._is_watched(mode, path):
                return call(file, mode, *given, **named)
            return self._opened(file, path, mode)

        return opened

    def _opened(self, file: Any, path: str, mode: str) -> Any:
        created = "w" in mode or not os.path.lexists(path)

        def make() -> _WatchedFile:
            made = _WatchedFile(self, file, mode)
            self._paths[made.fileno()] = path
            return made

        handles: list[_WatchedFile] = []

        def open_it() -> int:
            handles.append(make())
            return handles[0].fileno()

        self.meet(open_it, "open", path, created=created)
        return _buffered(handles[0])

    def _is_watched(self, mode: str, path: str) -> bool:
        writes = any(one in mode for one in "wax+")
        return self.begun and "b" in mode and writes and self._is_ours(path)


class _WatchedFile(io.FileIO):
    """Tells of each write that really goes to the file."""

    def __init__(self, calls: FileCalls, file: Any, mode: str) -> None:
        super().__init__(file, mode.replace("b", ""))
        self._calls = calls

    def write(self, content: Any) -> int:
        """Write, if nothing comes between."""
        written: int = self._calls.write(self.fileno(), content, super().write)
        return written


def _buffered(file: _WatchedFile) -> Any:
    return io.BufferedRandom(file) if file.readable() else io.BufferedWriter(file)
