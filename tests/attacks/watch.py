"""An audit hook for what data must never bring about, and bounds of seconds and of memory."""

from __future__ import annotations

import os
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CPU_SECONDS = 20
MEMORY = 2 << 30
"""Address space that an attack may take, more than the process has; what it fills is measured."""
_ALWAYS = frozenset(
    (
        *("exec", "compile", "code.__new__", "function.__new__", "marshal.loads", "marshal.load"),
        *("pickle.find_class", "os.system", "subprocess.Popen", "os.exec", "os.fork", "os.forkpty"),
        *("os.posix_spawn", "os.spawn", "os.startfile", "os.putenv", "os.unsetenv", "pty.spawn"),
        *("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "urllib.Request"),
        *("ctypes.dlopen", "ctypes.dlsym", "ctypes.call_function", "ctypes.cdata"),
        *("shutil.copyfile", "shutil.rmtree", "shutil.unpack_archive", "shutil.make_archive"),
        *("sqlite3.connect", "sys.settrace", "sys.setprofile", "sys.addaudithook", "os.kill"),
        *("builtins.input", "webbrowser.open", "syslog.syslog", "tempfile.mkdtemp", "mmap.__new__"),
    )
)
_CHANGES = frozenset(
    (
        *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate"),
        *("os.chmod", "os.chown", "os.utime", "os.setxattr", "tempfile.mkstemp", "os.chdir"),
    )
)
_NUMBER = re.compile(r" at 0x[0-9a-f]+|\d+")
"""What is another one each time."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """Notes what this process, and those that it forks, do that data must not bring about.

    An audit hook cannot be taken off again: there is one in a process.

    Attributes:
        events: what was done, each for people, but for what was learned to be usual.
    """

    def __init__(self) -> None:
        self._allowed: str | None = None
        self._on = False
        self._usual: frozenset[str] = frozenset()
        self.events: list[str] = []
        sys.addaudithook(self._hook)

    def begin(self, allowed: Path | None, usual: frozenset[str] = frozenset()) -> None:
        """Watch from now on.

        Args:
            allowed: the folder in which may be written; ``None`` for nowhere.
            usual: what good files bring about, too.
        """
        self._allowed = None if allowed is None else str(allowed)
        self._usual, self.events, self._on = usual, [], True

    def end(self) -> frozenset[str]:
        """Watch no more, and return what was seen."""
        self._on = False
        return frozenset(self.events)

    def _hook(self, event: str, held: tuple[Any, ...]) -> None:
        told = self._told(event, held) if self._on else None
        if told and (plain := _NUMBER.sub("", told)[:200]) not in self._usual:
            self.events.append(plain)

    def _told(self, event: str, held: tuple[Any, ...]) -> str | None:
        if event in _ALWAYS:
            return f"{event} {held!r}"
        if event == "import":
            return None if held[0] in sys.modules else f"import of {held[0]}"
        if event == "open":
            return self._opened(*held)
        if event in _CHANGES and not self._may_write(held[0]):
            return f"{event} {held!r}"
        return None

    def _opened(self, path: Any, mode: Any, flags: Any) -> str | None:
        if not isinstance(flags, int) or not flags & _WRITING or self._may_write(path):
            return None
        return f"open {path!r} for writing"

    def _may_write(self, path: Any) -> bool:
        if self._allowed is None or not isinstance(path, str | bytes | os.PathLike):
            return isinstance(path, int)  # a file that is open already
        return f"{os.path.abspath(os.fsdecode(path))}/".startswith(f"{self._allowed}/")


def bound() -> None:
    """Bound the seconds and the memory of this process from now on."""
    used = _in_status("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 2))


def forget_peak() -> None:
    """Let the peak of the memory of this process begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def measured(do: Callable[[], object]) -> tuple[object, int]:
    """Return what ``do`` returns or raises, and by how many bytes the process grew meanwhile."""
    before = _in_status("VmRSS")
    try:
        found: object = do()
    except BaseException as error:
        found = error
    return found, max(0, _in_status("VmHWM") - before)


def _in_status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    return 0
