"""`lpot-lightning selftest`: kills and broken disks where the user works."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lpot_lightning.commands import selftest
from lpot_lightning.commands.main import main
from lpot_lightning.selftest.trying import Tried


def row(**given: int) -> Tried:
    counts = {"tried": 3, "lost": 0, "destroyed": 0, "accepted": 0, **given}
    return Tried(what="kills", seconds=1.0, **counts)


def answered(monkeypatch, *rows: Tried) -> int:
    monkeypatch.setattr(selftest, "try_out", lambda *_: list(rows))
    return main(["selftest"])


def test_a_table_and_nothing_left(capfd):
    assert main(["selftest", "--kills", "1", "--seed", "3"]) == 0
    out, err = capfd.readouterr()
    assert out.splitlines()[0].split() == [
        "what",
        "tried",
        "lost",
        "destroyed",
        "accepted",
        "wrongly",
        "seconds",
    ]
    assert [line.split()[-5:-1] for line in out.splitlines()[1:4]] == [
        ["1", "0", "0", "0"],
        ["1", "0", "0", "0"],
        ["300", "0", "0", "0"],
    ]
    assert out.endswith("nothing lost, nothing destroyed, nothing accepted wrongly\n")
    assert "killing it 1 times" in err
    assert not list(Path().iterdir())


@pytest.mark.parametrize("what", ["lost", "destroyed", "accepted"])
def test_what_went_wrong_is_exit_code_1(monkeypatch, capsys, what):
    assert answered(monkeypatch, row(), row(**{what: 1})) == 1
    out, err = capsys.readouterr()
    assert out.count("kills") == 2
    assert err.startswith("error: `.` did not keep what was written there: see the table")


def test_a_system_that_cannot_fork(monkeypatch, capsys):
    monkeypatch.delattr(os, "fork")
    assert main(["selftest"]) == 1
    assert "this system has no `fork`" in capsys.readouterr().err


def test_a_folder_that_is_not_there(capsys):
    assert main(["selftest", "--folder", "no/such"]) == 1
    said = "error: cannot write to `no/such`: No such file or directory\n"
    assert capsys.readouterr().err == said


def test_no_kills_at_all(capsys):
    assert main(["selftest", "--kills", "0"]) == 1
    assert capsys.readouterr().err == "error: `--kills` is 0; allowed: 1 or more\n"
