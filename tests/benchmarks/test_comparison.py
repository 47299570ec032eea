"""How the comparison goes on, starts its processes and times them; nothing is made int8."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import compare
import processes
import pytest
import rows
import torch
import worker
from compared import OUR_WAY, STATIC, made_up_row
from making import ORT, TORCH, Form, Made, Task, key
from rows import DONE, FAILED, FP32, NOT_INSTALLED, Row
from torch import nn
from ways import WAYS, Way


def test_a_row_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = made_up_row(OUR_WAY, TORCH)
    rows.write_row(tmp_path, made)
    assert rows.read_row(tmp_path, "ViT", OUR_WAY) == made
    assert rows.read_row(tmp_path, "ViT", STATIC) is None
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


def test_labels_have_files_of_their_own() -> None:
    assert len({rows.path_of(Path(), "ViT", way.label) for way in WAYS}) == len(WAYS)


def asked(cache: Path, text: str = "") -> argparse.Namespace:
    given = compare.arguments().parse_args([*text.split(), "--cache", str(cache)])
    return compare.settled(given)


def test_a_run_goes_on_with_what_is_not_done(tmp_path: Path) -> None:
    done = key("ViT", quick=False)
    for way, told in zip(
        WAYS, [{}, {"status": FAILED}, {"status": NOT_INSTALLED}, {"key": "old"}], strict=False
    ):
        rows.write_row(tmp_path, made_up_row(way.label, TORCH, **{"key": done, **told}))
    assert compare.Comparison(asked(tmp_path)).left("ViT") == list(WAYS[1:])
    assert compare.Comparison(asked(tmp_path, "--fresh")).left("ViT") == list(WAYS)


def test_parts_of_a_run_are_named_by_parts_of_labels(tmp_path: Path) -> None:
    found = asked(tmp_path, "--net GRU --way nncf torchao")
    assert found.net == ["GRU"]
    assert {way.module for way in found.way} == {"way_nncf", "way_torchao"}
    with pytest.raises(SystemExit, match="`--way` is `nobody`; allowed: a part of one of"):
        asked(tmp_path, "--way nobody")


def test_a_quick_run_leaves_the_page_alone(tmp_path: Path) -> None:
    path = compare.Comparison(asked(tmp_path, "--quick")).write_page()
    assert path == tmp_path / "quick" / "RESULTS.md"


def test_a_tool_that_is_not_installed_is_a_row(tmp_path: Path, monkeypatch) -> None:
    away = Way("Away", "way_away", home="no-such-folder")
    monkeypatch.setitem(processes.MAKE, away.home, "make it")
    comparison = compare.Comparison(asked(tmp_path))
    comparison.ways = (away,)
    comparison.compare("ViT")
    found = rows.read_row(tmp_path, "ViT", "Away")
    assert found is not None
    assert (found.status, found.reason) == (NOT_INSTALLED, "no `no-such-folder` (make it)")


class Fake:
    """Answers as a worker does, and says when."""

    def __init__(self, name: str, said: list[str], lives: int = 99) -> None:
        self.name, self.said, self.lives = name, said, lives

    def timed(self, batch: int, direction: int) -> dict[str, float]:
        self.said.append(f"{self.name}{batch}")
        self.lives -= 1
        if self.lives < 0:
            raise processes.Ended("ended with -9: killed")
        return {"call": 0.001 * direction}


def test_processes_are_timed_in_turns_in_both_orders() -> None:
    said: list[str] = []
    found, ended = processes.in_rounds({name: Fake(name, said) for name in "ab"}, (1, 8), 2)
    assert said == ["a1", "b1", "a8", "b8", "b1", "a1", "b8", "a8"]
    assert found["a"] == {"1": {"call": [0.001, -0.001]}, "8": {"call": [0.001, -0.001]}}
    assert not ended


def test_a_process_that_ends_while_it_is_timed_ends_alone() -> None:
    said: list[str] = []
    some = {"a": Fake("a", said, lives=1), "b": Fake("b", said)}
    found, ended = processes.in_rounds(some, (1,), 2)
    assert list(found) == ["b"]
    assert ended == {"a": "ended with -9: killed"}


SCRIPTS = {
    "answers": 'print(\'{"status": "done"}\', flush=True)\nfor line in sys.stdin:\n'
    "    print('{\"call\": %s}' % line.split()[0], flush=True)",
    "ends": "sys.exit('no memory')",
    "hangs": "import time; time.sleep(60)",
}


@pytest.fixture
def script(request, tmp_path: Path, monkeypatch) -> Iterator[processes.Worker]:
    class Here(Way):
        python = Path(sys.executable)

    (tmp_path / "worker.py").write_text(f"import sys\n{SCRIPTS[request.param]}\n")
    monkeypatch.setattr(processes, "HERE", tmp_path)
    core = min(processes.os.sched_getaffinity(0))
    one = processes.Worker(Here("n", "m"), "ViT", tmp_path / "t", core=core, patience=5)
    yield one
    one.close()


@pytest.mark.parametrize("script", ["answers"], indirect=True)
def test_a_worker_tells_what_is_made_and_then_times_it(script: processes.Worker) -> None:
    assert processes.first_told(script) == {"status": DONE}
    assert script.timed(8, -1) == {"call": 8}


@pytest.mark.parametrize("script", ["ends"], indirect=True)
def test_a_worker_that_ends_is_a_failed_row_with_its_last_words(script: processes.Worker) -> None:
    told = processes.first_told(script)
    assert told == {"status": FAILED, "reason": "ended with 1: no memory"}


@pytest.mark.parametrize("script", ["hangs"], indirect=True)
def test_a_worker_that_takes_too_long_is_ended(script: processes.Worker) -> None:
    script._patience = 0.1
    assert processes.first_told(script)["reason"] == "took longer than 0 s"


@pytest.fixture
def task(tmp_path: Path) -> Task:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    images = torch.rand(8, 1, 2, 2)
    truth = net(images).argmax(1)
    return Task(
        name="ResNet",
        net=net,
        calibration=images,
        images=images,
        labels=truth,
        goal=None,
        folder=tmp_path,
    )


def test_a_worker_judges_tells_and_times(task: Task, monkeypatch) -> None:
    def make(given: Task) -> Made:
        form = Form(runtime=ORT, call=lambda x: -given.net(x), seconds=1, lost=0, mib=1, batch=4)
        return Made(forms=(form,), versions={"x": "1"}, floats={ORT: given.net})

    monkeypatch.setitem(sys.modules, "way_stand_in", SimpleNamespace(make=make))
    monkeypatch.setattr(worker, "read_task", lambda *_: task)
    said = io.StringIO()
    given = argparse.Namespace(way="way_stand_in", task=None, net="", goal=None, folder=None)
    worker.work(given, io.StringIO("1 1\n8 -1\n"), said)
    told, *times = map(json.loads, said.getvalue().splitlines())
    assert (told["status"], told["fp32"], told["layers"]) == (DONE, 1.0, 1)
    assert told["forms"][0]["accuracy"] == 0.0
    assert told["forms"][0]["seconds"] > 1
    assert [list(one) for one in times] == [
        [FP32 + TORCH, FP32 + ORT, ORT],
        [ORT, FP32 + ORT, FP32 + TORCH],
    ]
    made = Row(net="ViT", way="w", key="k", **{**told, "forms": ()})
    assert made.fp32_mib > 0


def test_a_tool_that_cannot_be_imported_is_told_as_not_installed() -> None:
    said = io.StringIO()
    worker.work(argparse.Namespace(way="no_such_tool"), io.StringIO(), said)
    told = json.loads(said.getvalue())
    assert told == {"status": NOT_INSTALLED, "reason": "no module `no_such_tool`"}


def test_jobs_run_on_cores_of_their_own() -> None:
    found = compare.on_cores(range(6), [3, 5], lambda job, core: (job, core))
    assert [job for job, _ in found] == list(range(6))
    assert {core for _, core in found} <= {3, 5}
