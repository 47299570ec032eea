"""A process that has imported everything, and forks once a run of a scene."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from kill_scenes import FILES, Judged, Notes, Scene, told

from lpot_lightning import load, load_from_checkpoint
from lpot_lightning.errors import LpotError
from lpot_lightning.machine.lock import WorkspaceLock
from lpot_lightning.quantization.op_clock import OpClock
from lpot_lightning.runs import paying
from lpot_lightning.runs.paying_result import NotPaying, OpTimes, Paying
from lpot_lightning.timing import ratio
from lpot_lightning.tuning.space import Space

Before = Callable[[Callable[[str], None]], Callable[[str], None]]
"""Changes the child before its run: takes and returns what notes."""


def warm_up(scene: Scene, folder: Path) -> None:
    """Run a scene here, so that no child has to import anything."""
    torch.set_num_threads(1)
    ratio.WARM_UP, ratio.MOST = 0, 1
    paying.judged = _by_no_clock
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    folder.mkdir()
    scene.run(folder, lambda line: None)
    gc.freeze()  # a child that looks at all of it on its way out would copy all of it


def _by_no_clock(ops: OpClock, space: Space, seconds: float) -> Paying:
    """Find that the last op does not pay: runs are compared to the last bit."""
    names = sorted(op for chain in ops.chains for op in chain)
    slower = NotPaying(ops=(names[-1],), int8=2.0, fp32=1.0, spread=(0.5, 0.5), share=0.5)
    return Paying({op: OpTimes(1.0, 2.0) for op in names}, {names[-1]: slower})


class Forked:
    """A run of a scene in a child of this process, which leaves ``result`` or ``errors``.

    A ``quick`` one leaves the way out of the interpreter out: it takes longer than the run.
    """

    def __init__(
        self, scene: Scene, folder: Path, before: Before = lambda note: note, *, quick: bool = True
    ) -> None:
        self._notes = Notes(folder / "notes")
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


def _noting(notes: Notes) -> Callable[[str], None]:
    """Return what notes lines, and tells the first pass of a tuning, the baseline's, apart."""
    passes = Counter[str]()

    def note(line: str) -> None:
        if line == "tuning":
            passes.clear()
        passes[line] += 1
        notes.add("baseline" if line == "pass" and passes[line] == 1 else line)

    return note


def _child(scene: Scene, folder: Path, note: Callable[[str], None]) -> int:
    """Run, and return the exit code; what asks for another one goes through."""
    errors = (folder / "errors").open("a")
    os.dup2(errors.fileno(), 2)
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO)
    try:
        (folder / "result").write_text(json.dumps(told(scene.run(folder, note))))
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def unreadable(workspace: Path) -> Iterator[str]:
    """Yield what cannot be read though it is there, or cannot be locked though nobody is."""
    fp32, x = Judged(), torch.ones(1, 8)
    configure, weights, checkpoint, _ = (workspace / name for name in FILES)
    try:
        if configure.exists():
            assert load(configure, weights, fp32)(x).isfinite().all()
        if checkpoint.exists():
            assert load_from_checkpoint(Judged, checkpoint)(x).isfinite().all()
        if workspace.exists():
            left = {path: path.read_bytes() for path in workspace.glob(".lpot-*")}
            with WorkspaceLock(workspace):
                pass
            for path, content in left.items():  # it is the next run that has to sweep
                path.write_bytes(content)
    except (LpotError, AssertionError) as error:
        yield str(error)


def quiet_end(scene: Scene, folder: Path) -> Any:
    """Run in peace; return the run's seconds of tuning."""
    folder.mkdir()
    run = Forked(scene, folder)
    started = run.wait_for("tuning")
    assert run.wait() == 0, (folder / "errors").read_text()
    return time.monotonic() - started
