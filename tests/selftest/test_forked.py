"""Runs in children that may be killed at anything."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
from tqdm import tqdm

from lpot_lightning.errors import ArtifactError
from lpot_lightning.selftest.forked import Forked, quiet_end


class Doing:
    """A program that notes a line and does something."""

    def __init__(self, work):
        self._work = work

    def run(self, folder, note):
        note("tuning")
        return {"found": self._work()}


def test_the_end_of_a_run_is_left(tmp_path):
    assert quiet_end(Doing(lambda: 3), tmp_path) >= 0
    assert json.loads((tmp_path / "result").read_text()) == {"found": 3}


def test_what_a_run_raised_is_left(tmp_path):
    def work():
        raise ArtifactError("the file is gone")

    assert Forked(Doing(work), tmp_path).wait() == 1
    raised = json.loads((tmp_path / "raised").read_text())
    assert raised == {"ours": True, "text": "the file is gone"}
    with pytest.raises(RuntimeError, match="the file is gone"):
        quiet_end(Doing(work), tmp_path)


def test_a_signal_is_its_exit_code(tmp_path):
    run = Forked(Doing(lambda: time.sleep(60)), tmp_path)
    run.wait_for("tuning")
    run.send(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL


def test_a_lock_of_progress_bars_that_a_killed_run_held_is_no_other_ones(tmp_path):
    def killed():
        tqdm.get_lock().acquire()
        os.kill(os.getpid(), signal.SIGKILL)

    def seconds():
        began = time.monotonic()
        tqdm.get_lock().acquire(timeout=5)
        return time.monotonic() - began

    tqdm.get_lock()  # made here, it is that of all children
    assert Forked(Doing(killed), tmp_path).wait() == -signal.SIGKILL
    assert Forked(Doing(seconds), tmp_path).wait() == 0
    assert json.loads((tmp_path / "result").read_text())["found"] < 4
