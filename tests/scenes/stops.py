"""Send Ctrl-C and SIGTERM to tuning runs in each of their phases, and go on with them.

make chaos
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from fork_server import Forked, quiet_end, unreadable, warm_up
from kill_scenes import SCENES, Notes, Scene, acknowledged, end_of

from lpot_lightning.artifacts.tune_config import read_configure

PASSES = {"calibration": 1, "pass": 5, "write": 5}
"""The phases, and how many validation passes are begun when the signal comes."""


@dataclasses.dataclass(frozen=True)
class Stop:
    """A signal in a phase of a scene; Ctrl-C goes to all processes of a terminal."""

    scene: Scene
    number: signal.Signals
    phase: str
    times: int = 1

    def prepare(self, sent: Path, note: Callable[[str], None]) -> Callable[[str], None]:
        """Let the child wait where the signal is to meet it, in a batch or in a write."""
        os.setpgid(0, 0)
        begun, sync = Counter[str](), os.fsync

        def noted(line: str) -> None:
            begun[line] += 1
            note(line)
            here(line)

        def here(phase: str) -> None:
            if phase == self.phase and begun["tuning"] and begun["pass"] == PASSES[phase]:
                note("here")
                while not sent.exists():  # however busy the machine is
                    time.sleep(0.01)

        def slow_sync(handle: int) -> None:
            here("write")
            sync(handle)

        os.fsync = slow_sync
        return noted

    def send(self, folder: Path) -> tuple[int, float]:
        """Run, interrupt; return the exit code and the seconds that it took to end."""
        sent = folder / "sent"
        run = Forked(self.scene, folder, partial(self.prepare, sent), quick=False)
        here = run.wait_for("here")
        for _ in range(self.times):
            time.sleep(0.02)
            os.killpg(run.pid, self.number)
        sent.touch()
        return run.wait(), time.monotonic() - here

    def faults(self, folder: Path, end: dict[str, Any]) -> Iterator[str]:
        """Interrupt, look at what is left, go on."""
        code, seconds = self.send(folder)
        errors = (folder / "errors").read_text()
        if code not in (128 + self.number, *([-self.number] if self.times > 1 else [])):
            yield f"it ended with {code}: {errors[-2000:]}"
        alone = self.times == 1 and not self.scene.workers  # torch tells of workers that ended
        if alone and ("Traceback" in errors or "Exception ignored" in errors):
            yield errors[-2000:]
        yield from unreadable(folder / "workspace")
        yield from self._not_kept(folder, errors)
        begun = Counter(Notes(folder / "notes").lines())
        known = len(acknowledged(folder))
        if Forked(self.scene, folder).wait() or end_of(folder) != end:
            yield "what went on with it ended in another way"
        again = Counter(Notes(folder / "notes").lines()) - begun
        if again["pass"] != len(acknowledged(folder)) - known or again["training step"]:
            yield f"{again['pass']} passes again, {again['training step']} training steps"
        (folder / "seconds").write_text(f"{seconds:.2f}")

    def _not_kept(self, folder: Path, errors: str) -> Iterator[str]:
        """Yield where the best of the finished trials is not on disk, or that is not said."""
        finished = acknowledged(folder)
        if f"interrupted: {len(finished) or 'no'} " not in errors:
            yield f"it said: {errors[-500:]}"
        scores = [one["score"]["accuracy"] for one in finished if not one["score"]["failure"]]
        if not scores:
            return
        kept = read_configure(folder / "workspace" / "best_configure.yaml")["accuracy"]["int8"]
        if kept != min(scores):
            yield f"on disk is {kept}, the best was {min(scores)}"


def all_stops() -> list[Stop]:
    """Return every scene, signal and phase; one with workers, and one that is sent thrice."""
    basic = SCENES[0], SCENES[2]
    signals = signal.SIGINT, signal.SIGTERM
    stops = [Stop(*one) for one in itertools.product(basic, signals, PASSES)]
    for scene, number in itertools.product(basic, signals):
        workers = dataclasses.replace(scene, name=f"{scene.name}, 2 workers", workers=2)
        stops += [Stop(workers, number, "pass"), Stop(scene, number, "pass", times=3)]
    return stops


def main() -> int:
    """Interrupt, print a table, return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5.0, help="to end in, at most")
    asked = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="lpot-stops-"))
    warm_up(SCENES[0], root / "warm")
    stops = random.Random(0).sample(all_stops(), asked.stops)
    ends, faults = {}, []
    for scene in {one.scene for one in stops}:
        quiet_end(scene, root / scene.name)
        ends[scene] = end_of(root / scene.name)
    sys.stdout.write(
        "| scene | signal | phase | seconds to the end | faults |\n|---|---|---|---|---|\n"
    )
    for number, one in enumerate(stops):
        folder = root / str(number)
        folder.mkdir()
        found = list(one.faults(folder, ends[one.scene]))
        sent = one.number.name + (f" x {one.times}" if one.times > 1 else "")
        seconds = (folder / "seconds").read_text()
        if float(seconds) > asked.seconds:
            found.append(f"it took {seconds} s to end")
        sys.stdout.write(
            f"| {one.scene.name} | {sent} | {one.phase} | {seconds} | {len(found)} |\n"
        )
        faults += [f"{folder}: {fault}" for fault in found]
    sys.stdout.write(
        "".join(f"{fault}\n" for fault in faults) or f"{asked.stops} stops, no fault\n"
    )
    if not faults:
        shutil.rmtree(root)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
