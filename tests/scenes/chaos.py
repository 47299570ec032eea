"""Kill tuning runs at random moments, go on with them, hold the end against that of a quiet run.

    make chaos

A process that has imported everything forks once a run. One half of the kills comes by the clock,
at any moment of a run; the other at one of the calls that change files, with half of the content
written where it is a write. A run that was killed goes on, may be killed again, and ends.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fork_server import Forked, quiet_end, unreadable, warm_up
from kill_scenes import SCENES, Notes, Scene, acknowledged, end_of

CALLS = ("open", "write", "fsync", "truncate", "chmod", "replace", "rename", "unlink")
FAULTS = ("trials lost", "trials repeated", "unreadable files", "unequal ends", "other faults")


class Calls:
    """Counts the calls of a tuning that change files, and is killed at one of them."""

    def __init__(self, last: int | None = None, record: Path | None = None) -> None:
        self._last, self._record = last, record
        self._count, self._begun = 0, False

    def patch(self, note: Callable[[str], None]) -> Callable[[str], None]:
        """Count from the next tuning on."""
        for name in CALLS:
            setattr(os, name, self._counted(name, getattr(os, name)))

        def noted(line: str) -> None:
            self._begun |= line == "tuning"
            note(line)

        return noted

    def _counted(self, name: str, call: Any) -> Any:
        def counted(*given: Any, **named: Any) -> Any:
            self._count += self._begun
            if self._record is not None:
                self._record.write_text(str(self._count))
            if self._begun and self._count == self._last:
                if name == "write":
                    call(given[0], given[1][: len(given[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*given, **named)

        return counted


class Chaos:
    """Kills runs of one scene and counts what went wrong."""

    def __init__(self, scene: Scene, draw: random.Random, root: Path) -> None:
        self.scene, self.draw, self.root = scene, draw, root
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        quiet = self.root / f"{scene.name}, quiet"
        self.seconds = quiet_end(scene, quiet)
        self.end = end_of(quiet)
        counted = self._folder()
        Forked(scene, counted, Calls(record=counted / "calls").patch).wait()
        self.calls = int((counted / "calls").read_text())
        self._order = draw.sample(range(1, self.calls + 1), self.calls)

    @property
    def kills(self) -> int:
        return self.counts["by the clock"] + self.counts["at a call"]

    def case(self, most: int) -> None:
        """Kill a new run, and what goes on with it, ``most`` times; then let it end."""
        folder = self._folder()
        try:
            for _ in range(most):
                if self._held_together(folder, self._killed) == 0:
                    break  # it was quicker
            else:
                self._held_together(folder, lambda folder: Forked(self.scene, folder).wait())
            found = end_of(folder)
            for name in [name for name in found if found[name] != self.end[name]]:
                self._fault("unequal ends", folder, name)
        except Exception:
            self._fault("other faults", folder, traceback.format_exc()[-2000:])
        if not self.faults:
            shutil.rmtree(folder)

    def _killed(self, folder: Path) -> int:
        by_clock = self.kills % 2 == 0
        self.counts["tried"] += not by_clock
        last = None if by_clock else self._order[self.counts["tried"] % self.calls]
        run = Forked(self.scene, folder, Calls(last).patch)
        if by_clock:
            run.wait_for("tuning")
            time.sleep(self.draw.uniform(0, self.seconds))
            run.send(signal.SIGKILL)
        code = run.wait()
        if code == -signal.SIGKILL:
            self.counts["by the clock" if by_clock else "at a call"] += 1
        return code

    def _held_together(self, folder: Path, run: Callable[[Path], int]) -> int:
        """Run, and hold what is acknowledged and what was done against each other."""
        notes, before = Notes(folder / "notes"), acknowledged(folder)
        began = Counter(notes.lines())
        code = run(folder)
        done = Counter(notes.lines()) - began
        after = acknowledged(folder)
        self.counts["runs"] += 1
        if after[: len(before)] != before:
            self._fault("trials lost", folder, f"{len(before)} before, {len(after)} after")
        spare = done["pass"] - (len(after) - len(before))
        if spare not in ((0,) if code == 0 else (0, 1)):
            self._fault("trials repeated", folder, f"{spare} of {len(after)}")
        if began["tuning"] and done["training step"]:
            self._fault("other faults", folder, "it was trained again")
        if code not in (0, -signal.SIGKILL):
            self._fault("other faults", folder, (folder / "errors").read_text()[-2000:])
        for fault in unreadable(folder / "workspace"):
            self._fault("unreadable files", folder, fault)
        return code

    def _fault(self, kind: str, folder: Path, what: str) -> None:
        self.counts[kind] += 1
        self.faults.append(f"{folder}: {kind}: {what}")

    def _folder(self) -> Path:
        self.counts["folders"] += 1
        folder = self.root / f"{self.scene.name}, {self.counts['folders']}"
        folder.mkdir()
        return folder

    def row(self) -> str:
        size = f"{self.seconds:.2f} s, {self.calls} calls, {len(self.end['trials'])} trials"
        names = ("runs", "by the clock", "at a call", *FAULTS)
        return f"| {self.scene.name} | {size} | {' | '.join(str(self.counts[n]) for n in names)} |"


def main() -> int:
    """Kill, print a table, return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="lpot-chaos-"))
    warm_up(SCENES[0], root / "warm")
    draw, faults, kills = random.Random(asked.seed), [], 0
    head = ["scene", "one run", "runs", "kills by the clock", "kills at a call", *FAULTS]
    sys.stdout.write(f"| {' | '.join(head)} |\n{'|---' * len(head)}|\n")
    for number, scene in enumerate(SCENES, start=1):
        chaos, wanted = Chaos(scene, draw, root), asked.kills * number // len(SCENES) - kills
        while chaos.kills < wanted:
            chaos.case(min(draw.randint(1, 3), wanted - chaos.kills))
        kills += chaos.kills
        faults += chaos.faults
        sys.stdout.write(f"{chaos.row()}\n")
    sys.stdout.write("".join(f"{fault}\n" for fault in faults) or f"{kills} kills, no fault\n")
    if not faults:
        shutil.rmtree(root)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
