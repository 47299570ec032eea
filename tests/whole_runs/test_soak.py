"""Runs of kits add up."""

from __future__ import annotations

import argparse
import json
import os
import signal

import soak
from ledger import Ledger, sums, table, written_down


def test_runs_add_up_and_the_largest_is_kept(tmp_path):
    path = tmp_path / "soaked" / "ledger.jsonl"
    for seed in (1, 2):
        ledger = Ledger("kills", seed, path)
        ledger.count(kills=3, lost=0)
        ledger.largest(**{"longest seconds": 2.5 * seed})
        ledger.write()
    assert sums(path)["kills"].counts == {"kills": 6, "lost": 0, "longest seconds": 5.0}
    assert "| kills | 2 | 0.00 | kills | 6 |" in table(path)
    assert next(soak.seeds(path)) == 3


def stopped(asked):
    with written_down("kills", asked) as ledger:
        ledger.count(kills=1)
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_kit_that_is_stopped_writes_down_what_it_has(tmp_path):
    asked = argparse.Namespace(seed=4, ledger=tmp_path / "ledger")
    child = os.fork()
    if not child:
        stopped(asked)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143
    line = json.loads(asked.ledger.read_text())
    assert (line["kit"], line["seed"], line["counts"]) == ("kills", 4, {"kills": 1})


def test_only_kits_that_are_there_are_run():
    names = {one.name for one in soak.kits()}
    assert {"chaos.py", "disk_chaos.py", "crash_states.py", "stops.py", "growth.py"} <= names


def test_kits_take_turns_until_the_time_is_over(tmp_path, monkeypatch):
    kit, ledger = tmp_path / "kit.py", tmp_path / "ledger"
    kit.write_text(
        "import sys\nopen(sys.argv[-1], 'a').write"
        '(\'{"kit": "a", "seed": %s, "seconds": 1, "counts": {}}\\n\' % sys.argv[4])\n'
        "sys.exit(int(sys.argv[2]))"
    )
    monkeypatch.setattr(soak, "kits", lambda: {kit: ("--kills", "1")})
    ticks = iter([0, 0, 10])
    monkeypatch.setattr(soak.time, "monotonic", lambda: next(ticks))
    assert soak.soak(5, ledger) == 2
    assert [json.loads(line)["seed"] for line in ledger.read_text().splitlines()] == [1, 2]
