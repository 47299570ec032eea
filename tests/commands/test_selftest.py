"""`lpot-lightning selftest`: kills and broken disks where the user works."""

from __future__ import annotations

import json
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
    assert max(map(len, out.splitlines())) <= 80
    head, *rest = out.splitlines()
    assert head.split() == ["what", "tried", "lost", "destroyed", "accepted", "wrongly", "seconds"]
    counts = [line.split()[-5:-1] for line in rest if line.endswith(tuple("0123456789"))]
    assert counts == [["1", "0", "0", "0"], ["1", "0", "0", "0"], ["300", "0", "0", "0"]]
    assert out.endswith("nothing lost, nothing destroyed, nothing accepted wrongly\n")
    assert "killing it 1 times" in err
    assert not list(Path().iterdir())


@pytest.mark.parametrize("what", ["lost", "destroyed", "accepted"])
def test_what_went_wrong_is_exit_code_1(monkeypatch, capsys, what):
    assert answered(monkeypatch, row(), row(**{what: 1})) == 1
    out, err = capsys.readouterr()
    assert out.count("kills") == 2
    assert err.startswith("error: `.` did not keep what was written there: see the table")


def test_programs_get_the_rows_and_the_error(monkeypatch, capsys):
    monkeypatch.setattr(selftest, "try_out", lambda *_: [row(lost=1)])
    assert main(["selftest", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["good"] is False
    assert found["tried"][0]["lost"] == 1
    assert found["error"]["where"] == "."


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
