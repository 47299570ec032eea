"""Send signals to runs of every kind in each of their phases, and go on with them.

    make chaos

Ctrl-C, SIGTERM and SIGHUP, once and thrice in a row, and SIGUSR1 in a job of SLURM.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import logging
import os
import random
import re
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

import plain_scenes
from fork_server import Forked, Notes, quiet_end, unreadable, warm_up
from kill_scenes import SCENES, Scene, acknowledged, end_of
from ledger import Ledger
from stop_scenes import PlaceStop, place_stops

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

    @property
    def name(self) -> str:
        return self.scene.name

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
    signals = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    stops = [Stop(*one) for one in itertools.product(basic, signals, PASSES)]
    for scene, number in itertools.product(basic, signals):
        workers = dataclasses.replace(scene, name=f"{scene.name}, 2 workers", workers=2)
        stops += [Stop(workers, number, "pass"), Stop(scene, number, "pass", times=3)]
    return stops


def main() -> int:
    """Interrupt, print a table, return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stops", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=5.0, help="to end in, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ledger", type=Path, help="a file to which the counts are appended")
    parser.add_argument("--only", default="", help="a regular expression of names and phases")
    asked = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="lpot-stops-"))
    ledger = Ledger("stops", asked.seed, asked.ledger)
    warm_up(SCENES[0], root / "warm")
    logging.getLogger("lpot_lightning").handlers.clear()  # what is said is looked at
    plain_scenes.net()
    every = [one for one in [*all_stops(), *place_stops()] if re.search(asked.only, _named(one))]
    stops = random.Random(asked.seed).sample(every, min(asked.stops, len(every)))
    ends, faults, longest = {}, [], 0.0
    for scene in {one.scene for one in stops if isinstance(one, Stop)}:
        quiet_end(scene, root / scene.name)
        ends[scene] = end_of(root / scene.name)
    sys.stdout.write(
        f"| run | phase | signal | exit code | seconds to the end | faults |\n{'|---' * 6}|\n"
    )
    for number, one in enumerate(stops):
        folder = root / str(number)
        folder.mkdir()
        rest = (ends[one.scene],) if isinstance(one, Stop) else ()
        found = list(one.faults(folder, *rest))
        seconds = float((folder / "seconds").read_text())
        if seconds > asked.seconds:
            found.append(f"it took {seconds} s to end")
        code = 128 + one.number if not found else "?"
        sys.stdout.write(f"| {_named(one)} | {code} | {seconds} | {len(found)} |\n")
        sys.stdout.flush()
        faults += [f"{folder}: {fault}" for fault in found]
        longest = max(longest, seconds)
    phases = len({_named(one) for one in stops})
    sys.stdout.write("".join(f"{fault}\n" for fault in faults))
    sys.stdout.write(
        f"{len(stops)} stops in {phases} phases by signals, {len(faults) or 'no'}"
        f" fault{'s' * (len(faults) > 1)}, longest {longest} s\n"
    )
    ledger.count(**{"stops": len(stops), "phases by signals": phases, "faults": len(faults)})
    ledger.largest(**{"longest seconds": longest})
    ledger.write()
    if not faults:
        shutil.rmtree(root)
    return int(bool(faults))


def _named(one: Stop | PlaceStop) -> str:
    sent = one.number.name + (f" x {one.times}" if one.times > 1 else "")
    return f"{one.name} | {one.phase} | {sent}"


if __name__ == "__main__":
    sys.exit(main())
