"""Disks that are full, broken or read-only, at each call that changes a file."""

from __future__ import annotations

import errno
import json
import os
import random
import traceback
from pathlib import Path

from lpot_lightning.selftest.file_calls import FailingAt, FileCall
from lpot_lightning.selftest.forked import ERRORS, RAISED, WARNED, Forked
from lpot_lightning.selftest.kills import FAULTS, OTHER, Trials, calls_of
from lpot_lightning.selftest.scene import Killable

SILENT, UNNAMED = "silent", "unnamed"
DISK_FAULTS = (*FAULTS, SILENT, UNNAMED)
"""What can go wrong: also that nothing is said, or not which file."""
CODES = (errno.ENOSPC, errno.EIO, errno.EROFS)


class DiskFaults(Trials):
    """Lets a call of a run fail, and then the run go on.

    Args:
        scene: what is run.
        draw: random numbers.
        root: a folder for all of it.
    """

    def __init__(self, scene: Killable, draw: random.Random, root: Path) -> None:
        super().__init__(scene, draw, root)
        self.calls = self.count_calls(all_files=False)
        ways = [
            (at, code, lasts)
            for at in range(1, self.calls + 1)
            for code in CODES
            for lasts in (False, True)
        ]
        self._ways = draw.sample(ways, len(ways))

    @property
    def ways(self) -> int:
        """How many faults there are to try: calls, errors, and whether they last."""
        return len(self._ways)

    @property
    def tried(self) -> int:
        """How many faults were met."""
        return self.counts["disk faults"]

    def case(self) -> None:
        """Let a run meet the next fault, and then end."""
        at, code, lasts = self._ways[self.counts["cases"] % len(self._ways)]
        self.counts["cases"] += 1
        folder = self.folder()
        try:
            self.held_together(folder, lambda folder: self._failing(folder, at, code, lasts=lasts))
            (folder / RAISED).unlink(missing_ok=True)
            if self.held_together(folder, lambda folder: Forked(self.scene, folder).wait()):
                self.fault(OTHER, folder, (folder / ERRORS).read_text()[-2000:])
            self.ends_as_it_should(folder)
        except Exception:
            self.fault(OTHER, folder, traceback.format_exc()[-2000:])
        self.forget(folder)

    def _failing(self, folder: Path, at: int, code: int, *, lasts: bool) -> int:
        told = folder.with_name(f"{folder.name}, struck")
        meets = Told(FailingAt(at, code, lasts=lasts), told)
        ended = Forked(
            self.scene, folder, calls_of(self.scene, folder, meets, all_files=False)
        ).wait()
        struck = json.loads(told.read_text() or "{}")
        told.unlink()
        if struck:
            self.counts["disk faults"] += 1
            self._judge(folder, ended, struck, f"{errno.errorcode[code]}{' lasting' * lasts}")
        return ended

    def _judge(self, folder: Path, code: int, struck: dict[str, str], what: str) -> None:
        """Look at what was said: an error of ours, which names the disk's fault and the file."""
        at = f"{what} at {struck['name']} of {struck['path']}"
        if code == 0:
            if _is_harmless(struck) or _is_told(folder, struck):
                self.counts["harmless"] += 1
            else:
                self.fault(SILENT, folder, at)
            return
        if code != 1:
            self.fault(OTHER, folder, f"{at}: it ended with {code}")
            return
        raised = json.loads((folder / RAISED).read_text())
        named = struck["said"] in raised["text"] and str(folder) in raised["text"]
        if not raised["ours"] or not named:
            self.fault(UNNAMED, folder, f"{at}: {raised['text']}")


class Told:
    """Leaves behind which call has failed."""

    def __init__(self, failing: FailingAt, path: Path) -> None:
        self._failing, self._path = failing, path
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        self._write = os.write

    def __call__(self, call: FileCall) -> None:
        try:
            self._failing(call)
        except OSError as error:
            if len(self._failing.failed) == 1:
                said = {"name": call.name, "path": call.path, "said": str(error.strerror)}
                self._write(self._handle, json.dumps(said).encode())
            raise


def _is_told(folder: Path, struck: dict[str, str]) -> bool:
    """Whether the run has told of a report that it could not write, and why."""
    texts: list[str] = json.loads((folder / WARNED).read_text())["texts"]
    return any(struck["said"] in text and str(folder) in text for text in texts)


def _is_harmless(struck: dict[str, str]) -> bool:
    """Whether nothing is lost where nothing is said."""
    name = Path(struck["path"]).name
    return (
        # it was there; a file without a name is tried with one
        (struck["name"] in ("mkdir", "open") and Path(struck["path"]).is_dir())
        or name == "lock"  # the name of a holder
        or (struck["name"] in ("unlink", "rmdir") and ".lpot-" in struck["path"])
        or struck["name"] == "link"  # a copy is made in its place
    )
