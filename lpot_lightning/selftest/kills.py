"""Runs that are killed, gone on with, and held against a quiet one."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lpot_lightning.selftest.file_calls import FileCall, FileCalls, KilledAt, Met
from lpot_lightning.selftest.forked import ERRORS, NOTES, Before, Forked, Notes, quiet_end
from lpot_lightning.selftest.scene import Killable, Note

LOST, REPEATED = "lost", "repeated"
UNREADABLE, UNEQUAL, OTHER = "unreadable files", "unequal ends", "other faults"
FAULTS = (LOST, REPEATED, UNREADABLE, UNEQUAL, OTHER)
"""What can go wrong."""


def calls_of(scene: Killable, folder: Path, before: Met, *, all_files: bool = True) -> Before:
    """Return what counts a child's calls from where a scene says that it begins.

    Args:
        scene: that runs.
        folder: its folder.
        before: takes each call.
        all_files: whether those of others in the folder count, too, such as checkpoints.
    """
    calls = FileCalls([folder] if all_files else scene.written(folder), before)

    def patched(note: Note) -> Note:
        calls.begun = False
        calls.patch()

        def noted(line: str) -> None:
            calls.begun |= line == scene.begins
            note(line)

        return noted

    return patched


class Trials:
    """Runs of one scene that are spoilt in some way; counts what went wrong.

    Args:
        scene: what is run.
        draw: random numbers.
        root: a folder for all of it.
    """

    def __init__(self, scene: Killable, draw: random.Random, root: Path) -> None:
        self.scene, self.draw, self.root = scene, draw, root
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        quiet = self.folder()
        self.seconds = quiet_end(scene, quiet, scene.begins)
        self.end = scene.end_of(quiet)

    def folder(self) -> Path:
        """Return a new folder, prepared."""
        self.counts["folders"] += 1
        folder = self.root / f"{self.scene.name}, {self.counts['folders']}"
        folder.mkdir()
        self.scene.prepare(folder)
        return folder

    def count_calls(self, *, all_files: bool) -> int:
        """Return how many calls of a quiet run change files."""
        folder = self.folder()
        told = folder.with_name(f"{folder.name}, calls")
        last = Last(told)
        code = Forked(
            self.scene, folder, calls_of(self.scene, folder, last, all_files=all_files)
        ).wait()
        assert code == 0, (folder / ERRORS).read_text()[-2000:]
        shutil.rmtree(folder)
        return int(told.read_text() or 0)  # some change none

    def held_together(self, folder: Path, run: Callable[[Path], int]) -> int:
        """Run, and hold what is acknowledged and what was done against each other."""
        notes, before = Notes(folder / NOTES), self.scene.acknowledged(folder)
        began = Counter(notes.lines())
        code = run(folder)
        done = Counter(notes.lines()) - began
        after = self.scene.acknowledged(folder)
        self.counts["runs"] += 1
        if after[: len(before)] != before:
            self.fault(LOST, folder, f"{len(before)} before, {len(after)} after")
        if twice := self.scene.repeated(done, len(after) - len(before), ended=code == 0):
            self.fault(REPEATED, folder, twice)
        if began["tuning"] and done["training step"]:
            self.fault(REPEATED, folder, "it was trained again")
        for fault in self.scene.unreadable(folder):
            self.fault(UNREADABLE, folder, fault)
        return code

    def ends_as_it_should(self, folder: Path) -> None:
        """Hold the end of a run against that of the quiet one."""
        found = self.scene.end_of(folder)
        for name in [name for name in self.end if found.get(name) != self.end[name]]:
            told = (found.get(name), self.end[name])
            self.fault(UNEQUAL, folder, f"{name}: {' and not '.join(map(repr, told))}"[:1000])

    def fault(self, kind: str, folder: Path, what: str) -> None:
        """Count what went wrong."""
        self.counts[kind] += 1
        self.faults.append(f"{folder}: {kind}: {what}")

    def forget(self, folder: Path) -> None:
        """Remove a folder in which nothing went wrong."""
        if not any(one.startswith(f"{folder}:") for one in self.faults):
            shutil.rmtree(folder)


class Last:
    """Writes the number of the last call into a file."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        self._write = os.pwrite

    def __call__(self, call: FileCall) -> None:
        self._write(self._handle, b"%9d" % call.number, 0)


class Kills(Trials):
    """Kills runs of one scene, one half by the clock, the other at a call that changes files."""

    def __init__(self, scene: Killable, draw: random.Random, root: Path) -> None:
        super().__init__(scene, draw, root)
        self.calls = self.count_calls(all_files=True)
        self._order = draw.sample(range(1, self.calls + 1), self.calls)

    @property
    def kills(self) -> int:
        """How many runs were killed."""
        return self.counts["by the clock"] + self.counts["at a call"]

    def case(self, most: int) -> None:
        """Kill a new run, and what goes on with it, ``most`` times; then let it end."""
        folder = self.folder()
        try:
            for times in range(most):
                if self.held_together(folder, partial(self._killed, times)) == 0:
                    break  # it was quicker
            else:
                self.held_together(folder, self._to_the_end)
            self.ends_as_it_should(folder)
        except Exception:
            self.fault(OTHER, folder, traceback.format_exc()[-2000:])
        self.forget(folder)

    def _to_the_end(self, folder: Path) -> int:
        return self._told(folder, Forked(self.scene, folder).wait())

    def _killed(self, times: int, folder: Path) -> int:
        """Kill a run; one that goes on for the ``times``-th time has less to do."""
        by_clock = self.kills % 2 == 0 or not self.calls
        last = 0 if by_clock else self._call(times)
        run = Forked(self.scene, folder, calls_of(self.scene, folder, KilledAt(last)))
        if by_clock:
            run.wait_for(self.scene.begins)
            time.sleep(self.draw.uniform(0, self.seconds / 2**times))
            run.send(signal.SIGKILL)
        code = run.wait()
        if code == -signal.SIGKILL:
            self.counts["by the clock" if by_clock else "at a call"] += 1
        return self._told(folder, code)

    def _call(self, times: int) -> int:
        """Return a number of a call: of new runs each one in turn, of others one of the first."""
        if times:
            return self.draw.randint(1, max(1, self.calls >> times))
        self.counts["tried"] += 1
        return self._order[self.counts["tried"] % self.calls]

    def _told(self, folder: Path, code: int) -> int:
        if code not in (0, -signal.SIGKILL):
            self.fault(OTHER, folder, (folder / ERRORS).read_text()[-2000:])
        return code
