"""A kit that finds nothing has to be one that would."""

from __future__ import annotations

import contextlib
import json
import random
import warnings
from collections import Counter
from pathlib import Path

import pytest

from lpot_lightning.errors import ArtifactError
from lpot_lightning.machine.files import write_file
from lpot_lightning.selftest.disk_faults import SILENT, UNNAMED, DiskFaults
from lpot_lightning.selftest.kills import LOST, REPEATED, UNREADABLE, Kills


class Counting:
    """Writes numbers one by one, and goes on; each way of doing it wrong can be had."""

    name, begins = "counting", "begin"

    def __init__(self, wrong: str = "") -> None:
        self.wrong = wrong

    def prepare(self, folder: Path) -> None:
        (folder / "kept").mkdir()

    def run(self, folder, note):
        note("begin")
        for number in range(6):
            path = folder / f"kept/{number}"
            if path.exists() and self.wrong != "repeats":
                continue
            note("pass")
            self._write(path)
        if self.wrong == "loses":
            (folder / "kept/0").unlink()
            self._write(folder / "kept/0")
        return {"count": 6}

    def _write(self, path: Path) -> None:
        if self.wrong == "torn":
            with open(path, "wb") as file:
                file.write(b"content")
        elif self.wrong == "silent":
            with contextlib.suppress(ArtifactError):
                write_file(path, b"content")
        elif self.wrong == "warns":
            try:
                write_file(path, b"content")
            except ArtifactError as error:
                warnings.warn(f"the report `{path}` is not up to date: {error}", stacklevel=2)
        elif self.wrong == "unnamed":
            try:
                write_file(path, b"content")
            except ArtifactError:
                raise RuntimeError("it did not work") from None
        else:
            write_file(path, b"content")

    def written(self, folder):
        return [folder / "kept"]

    def acknowledged(self, folder):
        return [n for n in range(6) if (folder / f"kept/{n}").exists()]

    def repeated(self, done: Counter[str], more: int, *, ended: bool) -> str:
        spare = done["pass"] + done["baseline"] - more
        return "" if spare in ((0,) if ended else (0, 1)) else f"{spare} too many"

    def unreadable(self, folder):
        found = (one for one in (folder / "kept").iterdir() if not one.name.startswith("."))
        yield from (one.name for one in found if one.read_bytes() not in (b"content", b""))

    def end_of(self, folder):
        return {"result": json.loads((folder / "result").read_text())}


def killed(tmp_path, wrong="", count=12):
    kills = Kills(Counting(wrong), random.Random(0), tmp_path)
    while kills.kills < count:
        kills.case(2)
    return kills


def test_what_goes_on_rightly_has_no_faults(tmp_path):
    kills = killed(tmp_path)
    assert kills.calls >= 24
    assert kills.faults == []
    assert kills.counts["at a call"] >= 5


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ("loses", LOST),
        pytest.param("repeats", REPEATED, marks=pytest.mark.soak),
        pytest.param("torn", UNREADABLE, marks=pytest.mark.soak),
    ],
)
def test_what_is_done_wrongly_is_found(tmp_path, wrong, kind):
    assert killed(tmp_path, wrong, 30).counts[kind]


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [("", ""), ("silent", SILENT), ("unnamed", UNNAMED), ("warns", "")],
)
def test_disks_that_fail(tmp_path, wrong, kind):
    disk = DiskFaults(Counting(wrong), random.Random(0), tmp_path)
    for _ in range(12):
        disk.case()
    found = {name for name, count in disk.counts.items() if count and name in (SILENT, UNNAMED)}
    assert found == ({kind} if kind else set())
    assert disk.tried == 12
