"""A process that has imported everything, and forks once a run."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from lpot_lightning.errors import LpotError
from lpot_lightning.selftest.scene import Note

OUTCOME, ERRORS, RAISED, NOTES, WARNED = "result", "errors", "raised", "notes", "warned"
"""What a run leaves beside its own files: its end, its stderr, what it raised, its notes, and what
it told of a report that could not be written, which ends no run."""
Before = Callable[[Note], Note]
"""Changes the child before its run: takes and returns what notes."""
_open = open  # before somebody counts its calls


class Runnable(Protocol):
    """A program in a folder."""

    def run(self, folder: Path, note: Note) -> Mapping[str, Any]:
        """Run to the end; return what two runs must have in common."""


class Notes:
    """Lines that survive a kill."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, line: str) -> None:
        """Append a line with one write."""
        with _open(self._path, "ab", buffering=0) as file:
            file.write(line.encode() + b"\n")

    def lines(self) -> list[str]:
        """Return all of them."""
        return self._path.read_text().splitlines() if self._path.exists() else []


class Forked:
    """A run in a child of this process.

    A ``quick`` one leaves the way out of the interpreter out: it takes longer than the run.

    Args:
        scene: what is run.
        folder: where it runs, and leaves ``result``, or ``errors`` and ``raised``.
        before: changes the child.
        quick: see above.
    """

    def __init__(
        self,
        scene: Runnable,
        folder: Path,
        before: Before = lambda note: note,
        *,
        quick: bool = True,
    ) -> None:
        self._notes = Notes(folder / NOTES)
        self._known = Counter(self._notes.lines())
        self._code: int | None = None
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            code = _child(scene, folder, before(_noting(self._notes)))
            if quick:
                os._exit(code)
            sys.exit(code)

    def wait_for(self, line: str) -> float:
        """Return the time when it was noted, or when the run ended without."""
        while self._notes.lines().count(line) == self._known[line] and not self._has_ended():
            time.sleep(0.001)
        return time.monotonic()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if not self._has_ended():
            os.kill(self.pid, number)

    def wait(self) -> int:
        """Return the exit code, negative for a signal."""
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def _has_ended(self) -> bool:
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code is not None


def _noting(notes: Notes) -> Note:
    """Return what notes lines, and tells the first pass of a tuning, the baseline's, apart."""
    passes = Counter[str]()

    def note(line: str) -> None:
        if line == "tuning":
            passes.clear()
        passes[line] += 1
        notes.add("baseline" if line == "pass" and passes[line] == 1 else line)

    return note


def _child(scene: Runnable, folder: Path, note: Note) -> int:
    """Run, and return the exit code; what asks for another one goes through."""
    _have_own_lock()
    errors = _open(folder / ERRORS, "a")
    os.dup2(errors.fileno(), 2)
    try:
        with _heard(folder / WARNED):
            told = scene.run(folder, note)
    except Exception as error:
        traceback.print_exc(file=errors)
        errors.flush()
        _leave(folder / RAISED, {"ours": isinstance(error, LpotError), "text": str(error)})
        return 1
    _leave(folder / OUTCOME, told)
    return 0


@contextmanager
def _heard(path: Path) -> Iterator[None]:
    """Leave what is told of a report, whatever is done with other warnings."""
    texts: list[str] = []
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message="the report `")
        usual = warnings.showwarning

        def heard(message: Warning | str, *given: Any) -> None:
            texts.append(str(message))
            usual(message, *given)

        warnings.showwarning = heard  # type: ignore[assignment]
        yield
    _leave(path, {"texts": texts})


def _have_own_lock() -> None:
    """Let progress bars here have a lock of their own.

    All processes of a program share that of `tqdm`, and one that is killed may hold it.
    """
    bars = sys.modules.get("tqdm.std")
    if bars is not None:
        bars.tqdm.set_lock(threading.RLock())


def _leave(path: Path, content: Mapping[str, Any]) -> None:
    with _open(path, "w") as file:
        file.write(json.dumps(content))


def quiet_end(scene: Runnable, folder: Path, begins: str = "tuning") -> float:
    """Run in peace in a folder; return the seconds from a line on.

    Raises:
        RuntimeError: if the run fails.
    """
    run = Forked(scene, folder)
    started = run.wait_for(begins)
    if run.wait():
        raise RuntimeError((folder / ERRORS).read_text()[-2000:])
    return time.monotonic() - started
