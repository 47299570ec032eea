"""The processes of the ways of a net: started on cores of their own, then timed in turns."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rows import DONE, FAILED, NOT_INSTALLED
from ways import MAKE, Way

HERE = Path(__file__).parent
PATIENCE = 300.0
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    "PYTHONPATH": str(HERE.parents[1]),
}


class Ended(Exception):
    """A process ended before it answered; the message says why."""


class Worker:
    """A process that makes one way, and times it when it is asked to.

    Args:
        way: which one.
        net: the family.
        task: the trained net.
        core: on which it computes.
        patience: seconds that it may take to make the model.
    """

    def __init__(
        self, way: Way, net: str, task: Path, *, core: int, patience: float = PATIENCE
    ) -> None:
        self.way, self._patience, self._given_up = way, patience, False
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        self._log = folder / "stderr"
        command = [way.python, HERE / "worker.py", net, way.module, "--task", task.resolve()]
        command += ["--folder", folder]
        command += [] if way.goal is None else ["--goal", way.goal]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["taskset", "-c", str(core), *map(str, command)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=folder,
                env={**os.environ, **ONE_THREAD, "TORCHINDUCTOR_CACHE_DIR": str(folder / "cache")},
            )

    def made(self) -> dict[str, Any]:
        """Wait until the model is made, and return what is told of it.

        Raises:
            Ended: if the process ends, or takes too long.
        """
        late = threading.Timer(self._patience, self._give_up)
        late.start()
        try:
            return self._answer()
        finally:
            late.cancel()

    def _give_up(self) -> None:
        self._given_up = True
        self._process.kill()

    def timed(self, batch: int, direction: int) -> dict[str, float]:
        """Return the seconds of a call of each kind.

        Raises:
            Ended: if the process ends.
        """
        assert self._process.stdin is not None
        print(batch, direction, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            found: dict[str, Any] = json.loads(line)
            return found
        self._process.wait()
        if self._given_up:
            raise Ended(f"took longer than {self._patience:.0f} s")
        lines = self._log.read_text(errors="replace").strip().splitlines()
        told = lines[-1] if lines else "it said nothing"
        raise Ended(f"ended with {self._process.returncode}: {told[:300]}")

    def close(self) -> None:
        """End the process, and remove its files."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._folder.cleanup()


def first_told(worker: Worker) -> dict[str, Any]:
    """Return what a worker tells of its model, or why there is none."""
    try:
        return worker.made()
    except Ended as error:
        return {"status": FAILED, "reason": str(error)}


def missing(way: Way) -> dict[str, Any] | None:
    """Say that the environment of a way is not there, if that is so."""
    if way.python.exists():
        return None
    return {"status": NOT_INSTALLED, "reason": f"no `{way.home}` ({MAKE[way.home]})"}


Rounds = dict[str, dict[str, dict[str, list[float]]]]
"""By worker, batch and call, the seconds of each round."""


def in_rounds(
    workers: Mapping[str, Worker], batches: Sequence[int], rounds: int
) -> tuple[Rounds, dict[str, str]]:
    """Time all workers in each round, in one order and in the other by turns.

    Returns:
        the seconds, and why a worker ended, of which there are none then.
    """
    found: Rounds = {name: {} for name in workers}
    ended: dict[str, str] = {}
    for number in range(rounds):
        direction = -1 if number % 2 else 1
        for batch in batches:
            for name in list(found)[::direction]:
                try:
                    told = workers[name].timed(batch, direction)
                except (Ended, BrokenPipeError) as error:
                    ended[name] = str(error)
                    del found[name]
                    continue
                of_batch = found[name].setdefault(str(batch), {})
                for call, seconds in told.items():
                    of_batch.setdefault(call, []).append(seconds)
    return found, ended


def is_made(told: Mapping[str, Any]) -> bool:
    """Whether there is a model to be timed."""
    return told["status"] == DONE
