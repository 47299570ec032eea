"""Hostile files in their short form: some of every kind, each watched."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import bombs
import pytest
from attack import Attack, written
from hostile import GROUPS, all_attacks, chosen
from pickles import CALLS, CONTAINERS, LIES, WAYS, called, text, whole, zipped
from warm_python import python

KIT = Path(__file__).parent / "hostile.py"
KEPT = Path(__file__).parents[1] / "museum/format_2"


def run(start: str, *given: str) -> subprocess.CompletedProcess[str]:
    world = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [start, str(KIT), *given]
    return subprocess.run(command, capture_output=True, text=True, env=world, check=False)


def test_no_hostile_file_does_anything(tmp_path):
    ledger = tmp_path / "ledger.jsonl"
    given = ("--files", "36", "--seed", "0", "--ledger", str(ledger), "--kept", str(KEPT))
    done = run(python(), *given, "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = map(json.loads, ledger.read_text().splitlines())
    counts = line["counts"]
    assert (line["kit"], line["seed"], counts["files"], counts["faults"]) == ("hostile", 0, 36, 0)
    assert counts["events"] == 0
    assert counts["refused"] > 24


@pytest.mark.soak  # `make soak` runs the kit as well; the short form takes some of every kind
def test_no_hostile_file_of_all_does_anything():
    done = run(sys.executable, "--quiet")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr


def test_the_watch_sees_what_is_done_and_the_bounds_hold(tmp_path):
    script = (
        "import os, sys; sys.path[:0] = sys.argv[1:]\n"
        "from pathlib import Path; from watch import Watch\n"
        "watch = Watch(); watch.begin(Path('in').absolute()); os.mkdir('in')\n"
        "open('in/x', 'w').close(); open('in/x').close(); os.getcwd()\n"
        "assert not watch.events, watch.events\n"
        "open('out', 'w').close(); eval('1'); os.system('true'); import colorsys\n"
        "print(sorted({one.split()[0] for one in watch.end()}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(KIT.parent)],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    for event in ("open", "exec", "os.system", "import"):
        assert f"'{event}'" in done.stdout, done.stdout + done.stderr


def test_each_call_would_run_if_it_were_unpickled(tmp_path, monkeypatch):
    """The pickles do what they say: else that they are refused would show nothing."""
    import pickle

    monkeypatch.chdir(tmp_path)
    pickle.loads(whole(called("os", "mkdir", text("MARKER"))))  # noqa: S301
    assert Path("MARKER").is_dir()
    for way in ("reduce", "stack global", "inst", "obj", "memo", "key of a dict"):
        Path("MARKER").rmdir()
        content = whole(WAYS[way]("os", "mkdir", (text("MARKER"),)), 4)
        try:
            pickle.loads(content)  # noqa: S301
        finally:
            assert Path("MARKER").is_dir(), way


def test_there_are_hundreds_of_every_sort():
    attacks = all_attacks()
    assert len(attacks) >= 600
    kinds = {one.kind for one in attacks.values()}
    assert len(CALLS) * len(CONTAINERS) >= 300
    assert len(LIES) > 40
    assert {"pickle", "lie", "archive", "YAML", "tag", "JSON", "history", "place"} <= kinds
    assert {"name", "data", "export", "sealed", "lock", "number", "field"} <= kinds
    assert len(GROUPS) == 13


def test_what_is_chosen_is_of_all_kinds_and_the_same_for_a_seed():
    names = [f"{kind}: {number}" for kind in "abc" for number in range(9)]
    found = chosen(names, 6, seed=1)
    assert sorted(one[0] for one in found) == ["a", "a", "b", "b", "c", "c"]
    assert found == chosen(names, 6, seed=1) != chosen(names, 6, seed=2)
    assert sorted(chosen(names, 100, seed=1)) == sorted(names)


def test_bombs_are_what_they_say():
    """Else that they are refused would show nothing."""
    assert gzip.decompress(bombs.gzipped(2)) == bytes(32 << 20)
    with zipfile.ZipFile(io.BytesIO(bombs.zipped(2, "a", "b/c"))) as archive:
        assert archive.testzip() is None
        assert {one.filename: one.file_size for one in archive.infolist()} == {
            "a": 32 << 20,
            "b/c": 32 << 20,
        }
    assert len(bombs.deflated(64)) < 2 << 20


def test_an_attack_is_a_file_in_a_place(tmp_path):
    written("x", lambda: b"made late")(tmp_path)
    assert (tmp_path / "x").read_bytes() == b"made late"
    assert Attack("tag: x", "conf", written("x", b"")).kind == "tag"
    assert zipped(b"N.").startswith(b"PK")
