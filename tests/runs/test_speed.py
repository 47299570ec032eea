"""How much faster int8 is, and whether attention is bf16: asked for, or measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from bf16_scenes import Heads
from small_run import Agreement, net, run
from torch import Tensor, nn

import lpot_lightning
from lpot_lightning.module.stand_in import StandIn
from lpot_lightning.runs import speed
from lpot_lightning.runs.speed import measure_speedup
from lpot_lightning.timing import ratio
from lpot_lightning.timing.ratio import Ratio


@pytest.fixture(autouse=True)
def _timed_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratio, "MOST", 3)
    monkeypatch.setattr(speed, "SETTLED", 0)


class Timed(Agreement):
    """Takes as long as it is told, and remembers whom it timed."""

    def __init__(self, model: nn.Module, seconds: list[float]) -> None:
        super().__init__(model)
        self.left, self.timed = list(seconds), []

    def step_seconds(self, model: nn.Module, runs: int = 1) -> list[float]:
        self.timed += [model.first.forward.__self__] * runs
        return [self.left.pop(0) for _ in range(runs)]


def test_the_ratio_is_the_median_of_those_of_the_pairs() -> None:
    model = net()
    runner = Timed(model, [4.0, 2.0, 1.0, 6.0, 100.0, 1.0])
    found = measure_speedup(runner, model, {"first": StandIn(nn.Linear(8, 32))})
    assert found == Ratio(6.0, (2.0, 100.0))


def test_fp32_and_int8_take_turns() -> None:
    model, int8 = net(), nn.Linear(8, 32)
    runner = Timed(model, [1.0] * 100)
    measure_speedup(runner, model, {"first": StandIn(int8)})
    assert [one is int8 for one in runner.timed] == [False, True, True, False, False, True]
    assert model.first.forward.__self__ is model.first


def test_graphs_compute_for_int8_alone() -> None:
    model, graph = net(), nn.Identity()
    runner = Timed(model, [1.0] * 100)
    measure_speedup(runner, model, {}, {"first": graph.forward})
    assert [one is graph for one in runner.timed[:4]] == [False, True, True, False]
    assert model.first.forward.__self__ is model.first


@pytest.mark.parametrize(("seconds", "steps"), [(0.001, 5), (0.15, 2), (1.0, 1)])
def test_int8_runs_until_it_is_as_fast_as_it_gets(monkeypatch, seconds, steps) -> None:
    monkeypatch.setattr(speed, "SETTLED", 5)
    model, int8 = net(), nn.Linear(8, 32)
    runner = Timed(model, [seconds] * 100)
    measure_speedup(runner, model, {"first": StandIn(int8)})
    assert [one is int8 for one in runner.timed] == [True] * steps + [False, True, True, False] + [
        False,
        True,
    ]


FASTER, SLOWER, UNSURE = Ratio(1.2, (1.1, 1.3)), Ratio(0.8, (0.7, 0.9)), Ratio(1.1, (0.9, 1.3))


class Attending(nn.Module):
    """Rows of eight numbers as tokens of an attention."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.heads, self.head = nn.Linear(2, 16), Heads(), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.heads(self.into(x.view(-1, 4, 2))).mean(1))


def attending() -> nn.Module:
    torch.manual_seed(0)
    return Attending().eval()


@pytest.fixture
def _bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CPU look as if it had bfloat16."""
    monkeypatch.setattr(speed, "has_bf16", lambda: True)


def timed(monkeypatch: pytest.MonkeyPatch, found: Ratio) -> list[str]:
    """Let steps be timed so, and return a list for what is said."""

    def compare(one: Any, other: Any) -> Ratio:
        one(1), other(1)
        return found

    monkeypatch.setattr(speed, "compared", compare)
    return []


def timings(said: list[str]) -> int:
    return sum("in bf16, against fp32: " in line for line in said)


@pytest.mark.usefixtures("_bf16")
@pytest.mark.parametrize(("ratio", "kind"), [(FASTER, "bf16"), (SLOWER, "fp32"), (UNSURE, "fp32")])
def test_auto_takes_it_where_it_is_faster_for_certain(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ratio: Ratio, kind: str
) -> None:
    said, is_bf16 = timed(monkeypatch, ratio), kind == "bf16"
    result = run(attending(), folder=tmp_path, said=said)
    assert (result.floats, timings(said)) == (kind, 1)
    assert ("attention, products" in result.table()) is is_bf16
    why = result.not_quantizable["heads#scaled_dot_product_attention_0"]
    assert ("in bf16 where graphs compute" in why) is is_bf16
    assert yaml.safe_load((tmp_path / "best_configure.yaml").read_text())["float"] == kind
    files = (tmp_path / "best_configure.yaml", tmp_path / "best_model_weights.pt")
    x = torch.randn(7, 8)
    assert torch.equal(lpot_lightning.load(*files, attending())(x), result.model(x))
    again = run(attending(), folder=tmp_path, said=said)
    assert (again.floats, timings(said)) == (kind, 1)


@pytest.mark.parametrize(
    "how",
    [
        {"strategy": {"name": "basic"}},
        {"objective": "modelsize"},
        {"quantization": {"float": "fp32"}},
    ],
    ids=str,
)
@pytest.mark.usefixtures("_bf16")
def test_nothing_is_timed_where_nobody_asks_for_it(
    monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    said = timed(monkeypatch, FASTER)
    assert run(attending(), said=said, **how).floats == "fp32"
    assert timings(said) == 0


@pytest.mark.usefixtures("_bf16")
def test_nothing_is_timed_of_a_model_without_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    said = timed(monkeypatch, FASTER)
    assert run(net(), said=said).floats == "fp32"
    assert timings(said) == 0


def test_auto_times_nothing_on_a_cpu_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "has_bf16", lambda: False)
    said = timed(monkeypatch, FASTER)
    assert run(attending(), said=said).floats == "fp32"
    assert timings(said) == 0


def test_what_is_asked_for_is_done_on_any_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "has_bf16", lambda: False)
    said = timed(monkeypatch, SLOWER)
    assert run(attending(), said=said, quantization={"float": "bf16"}).floats == "bf16"
    assert timings(said) == 0
    assert [line for line in said if "asks for bf16, and this CPU has neither" in line]
