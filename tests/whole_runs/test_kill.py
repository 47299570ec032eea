"""SIGKILL at any moment, and a disk that is full at any moment."""

import contextlib
import errno
import itertools
import json
import os
import subprocess
import warnings
from pathlib import Path

import pytest
import torch
from fork_server import unreadable
from kill_scenes import Scene, end_of
from warm_python import python

from lpot_lightning.errors import ArtifactError

SHORT = Scene("quantize, basic", "basic", trials=2)


KITS = [
    ("chaos", "--kills", "4", "--scene", "tuning"),
    ("chaos", "--kills", "4", "--scene", "pruning of channels"),
    ("disk_chaos", "--faults", "6", "--scene", "pruning of channels"),
    ("crash_states", "--states", "40", "--scene", "tuning", "--every", "20"),
]


@pytest.mark.parametrize("kit", KITS, ids=[f"{one[0]}, {one[4]}" for one in KITS])
def test_spoilt_runs_go_on_and_end_as_those_that_were_not(tmp_path, kit):
    name, *asked = kit
    script = Path(__file__).parents[1] / f"scenes/{name}.py"
    run = [python(), str(script), *asked, "--ledger", str(tmp_path / "ledger")]
    done = subprocess.run(run, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads((tmp_path / "ledger").read_text())["counts"]
    assert max(counts.values()) >= int(asked[1])


def run(folder):
    (folder / "result").write_text(json.dumps(SHORT.run(folder, lambda line: None)))
    return end_of(folder)


class FullDisk:
    """Has no room at one call, and then again."""

    def __init__(self, call, at):
        self.calls, self._call, self._at = 0, call, at

    def __call__(self, *given, **named):
        self.calls += 1
        if self.calls == self._at:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._call(*given, **named)


@contextlib.contextmanager
def told():
    """Hear what is told of a report that cannot be written, which ends no run."""
    with warnings.catch_warnings(record=True) as texts:
        warnings.filterwarnings("always", message="the report `")
        yield texts


# The name of a lock's holder is not worth an error; a probe of the folder takes a second way.
SILENT = {"write": 1, "open": 3}


@pytest.fixture
def _one_thread():
    """Tiny layers are quicker so, most of all where other processes are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


FEW = [("open", 13), ("write", 4), ("fsync", 13), ("replace", 3), ("unlink", 2)]
EACH = [pytest.param(name, 1, marks=pytest.mark.soak) for name, _ in FEW]


@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize(("name", "step"), FEW + EACH)
def test_a_full_disk_is_told_and_nothing_is_spoilt(tmp_path, monkeypatch, name, step):
    (tmp_path / "quiet").mkdir()
    end, silent = run(tmp_path / "quiet"), 0
    for at in itertools.count(1, step):
        folder, full = tmp_path / str(at), FullDisk(getattr(os, name), at)
        folder.mkdir()
        with monkeypatch.context() as patched, contextlib.suppress(ArtifactError), told() as texts:
            patched.setattr(os, name, full)
            run(folder)
            silent += full.calls >= at and not texts
        assert list(unreadable(folder / "workspace")) == []
        assert run(folder) == end
        if full.calls < at:
            break
    assert silent <= SILENT.get(name, 0)
