"""SIGKILL in the middle of tuning, in a process of its own."""

import json
import signal
import subprocess
import sys
from pathlib import Path

RUN = [sys.executable, str(Path(__file__).with_name("long_run.py"))]
FILES = ("best_model_weights.pt", "best_configure.yaml", "best_quantized.ckpt")


def whole_run(folder: Path) -> str:
    done = subprocess.run([*RUN, str(folder)], capture_output=True, text=True, timeout=120)
    assert "done not_met" in done.stdout, done.stderr
    return done.stderr


def killed_run(folder: Path, after: int) -> None:
    with subprocess.Popen([*RUN, str(folder)], stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if line.startswith(f"trial {after}:"):
                run.kill()
                break
    assert run.returncode == -signal.SIGKILL


def trials(folder: Path) -> list[tuple[object, float]]:
    lines = map(json.loads, (folder / "history.jsonl").read_text().splitlines())
    found = [line for line in lines if line["kind"] == "trial"]
    return [(line["recipe"], line["score"]["accuracy"]) for line in found]


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole_run(whole)
    killed_run(cut, after=3)
    before = trials(cut)
    said = whole_run(cut)
    assert said.count("(from history)") == len(before) >= 3
    assert trials(cut)[: len(before)] == before
    assert trials(cut) == trials(whole)
    for name in FILES:
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
