"""What the benchmarks count and print; nothing is trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import nets
import overhead
import planted
import pytest
import qat
import qat_or_ptq
import table
import torch

from lpot_lightning import TuningResult
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.recipe import FP32, OpConfig, Recipe, TensorConfig
from lpot_lightning.tuning.score import Criterion, Score
from lpot_lightning.tuning.trial import Trial


def made_up_result() -> TuningResult:
    return TuningResult(
        status="met",
        monitor="val_acc",
        criterion=Criterion(0.01, relative=True, higher_is_better=True),
        baseline=0.95,
        accuracy=0.948,
        int8_ops=("a", "b"),
        fp32_ops=("c",),
        not_quantizable={"gru": "no int8 kernel"},
        trials=(),
        evaluations=3.0,
        speedup=1.5,
        size_ratio=3.0,
        workspace=None,
    )


def test_a_table_is_markdown() -> None:
    assert table.markdown(["a", "b"], [[1, 2]]) == "| a | b |\n|---|---|\n| 1 | 2 |"


def test_a_row_has_a_cell_for_each_head() -> None:
    with pytest.raises(ValueError, match="1 cells for 2 heads"):
        table.markdown(["a", "b"], [[1]])


def test_calls_are_timed_in_turn_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    now = 0.0

    def call(name: str) -> None:
        nonlocal now
        said.append(name)
        now += 9.0 if len(said) <= 2 * table.WARM_UP else 1.0

    monkeypatch.setattr(table, "perf_counter", lambda: now)
    ms = table.interleaved_ms({"a": lambda: call("a"), "b": lambda: call("b")}, rounds=2)
    assert said == ["a", "b"] * (table.WARM_UP + 2)
    assert ms == {"a": 1000, "b": 1000}


def test_the_seconds_are_the_median_of_the_runs() -> None:
    seconds = iter([9.0, 1.0, 2.0])
    assert table.repeated(lambda: next(seconds), rounds=3) == 2.0


def test_what_takes_long_is_run_once() -> None:
    seconds = iter([30.0])
    assert table.repeated(lambda: next(seconds), rounds=3) == 30.0


@pytest.mark.parametrize("way", planted.CONFS)
def test_every_way_is_a_conf_with_the_same_goal(way: str, tmp_path: Path) -> None:
    conf = read_conf(planted.conf_of(way, str(tmp_path)))
    assert conf.tuning.accuracy_criterion.relative == planted.GOAL
    assert conf.tuning.workspace.path == str(tmp_path)
    assert conf.tuning.strategy.name == way.split()[0]


def test_a_row_counts_the_planted_ops_that_were_found() -> None:
    row = planted.Row("auto", 4.0, 4.2, ["a", "x"], 23, 0.944, 0.943, 9.0, 3.0, "met")
    cells = row.cells(["a", "b"])
    assert len(cells) == len(planted.HEADS)
    assert cells[3:5] == ["2 of 23", "1 of 2"]


def test_the_row_of_a_net_names_what_is_not_int8() -> None:
    cells = nets.cells("rows", 0.001, 2.0, made_up_result())
    assert len(cells) == len(nets.HEADS)
    assert cells[1:7] == ["0.1%", "3.0", "3.0", "2.0", "1 of 3", "1"]


def test_what_giving_up_has_spared_is_added_to_the_passes() -> None:
    score = Score.screening(0.5, 1.0, 0.25)
    trial = Trial(number=1, recipe=Recipe(()), score=score, replayed=False)
    tried = dataclasses.replace(made_up_result(), trials=(trial,))
    assert nets.cells("rows", 0.001, 2.0, tried)[2:4] == ["3.0", "3.8"]


@pytest.mark.parametrize("kind", nets.KINDS)
def test_the_nets_take_the_digits(kind: str) -> None:
    logits = nets.KINDS[kind].build()(torch.zeros(2, 1, 16, 16))
    assert logits.shape == (2, 10)


@pytest.mark.parametrize(("gap", "said"), [(0.09, "met, 1.0"), (0.11, "NOT MET, 1.0")])
def test_the_overhead_is_what_lies_between_two_trials(gap: float, said: str) -> None:
    trials = [(start, start + 0.05, 60) for start in (7.0, 7.05 + gap, 7.1 + 2 * gap)]
    cells = overhead.cells("net", 23, 100.0, trials)
    assert len(cells) == len(overhead.HEADS)
    assert cells[2:6] == ["100", *[f"{1000 * gap:.0f}"] * 3]
    assert cells[-1] == said


def test_the_planted_ops_are_four_and_the_function_stays() -> None:
    model = planted.LitNet().eval()
    for norm in (one for one in model.modules() if isinstance(one, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.bias)
    images = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        before = model.net(images)
        assert model.plant() == [
            f"net.{block}.{layer}" for block in (2, 5) for layer in ("depthwise", "project")
        ]
        torch.testing.assert_close(model.net(images), before)


def test_a_row_of_training_steps_has_the_medians_of_the_ratios() -> None:
    rounds = [
        {
            way: ([step / 1000] * 3, [step / 2000] * 3)
            for way, step in zip(qat.WAYS, steps, strict=True)
        }
        for steps in ((10, 5, 4), (30, 6, 6), (12, 4, 4))
    ]
    learning, frozen = (qat.cells("net", rounds, phase) for phase in (0, 1))
    assert learning[2:] == ["12.0", "5.0", "4.0", "3.00", "missed, 1.05", "1.00"]
    assert frozen[:3] == ["net", "frozen", "6.0"]


def test_a_period_is_from_one_batch_to_the_next() -> None:
    assert qat._between([0.0, 9.0, 18.0, 27.0, 28.0, 30.0]) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("trained", "same", "said"),
    [
        ((1, 0.95), True, "not behind"),
        ((1, 0.949), True, "BEHIND"),
        ((2, 0.99), True, "BEHIND"),
        ((0, 0.94), True, "not behind"),
        ((1, 0.949), False, "BEHIND?"),
    ],
)
def test_a_training_is_behind_in_ops_lost_or_in_accuracy(
    trained: tuple[int, float], same: bool, said: str
) -> None:
    assert qat_or_ptq.verdict_of((1, 0.95), trained, same=same) == said


def test_a_row_tells_what_rounds_as_it_was_trained() -> None:
    def config(algorithm: str) -> OpConfig:
        return OpConfig(
            TensorConfig(
                dtype="uint8", scheme="asym", granularity="per_tensor", algorithm=algorithm
            )
        )

    recipe = Recipe.of({"a": config("trained"), "b": config("kl"), "c": FP32})
    trial = Trial(number=1, recipe=recipe, score=Score.of(0.948, 1.0), replayed=False)
    found = dataclasses.replace(made_up_result(), trials=(trial,))
    pair = qat_or_ptq.Pair(before=0.94, trained=0.95, ptq=found, qat=found)
    cells = pair.cells("net", 2)
    assert len(cells) == len(qat_or_ptq.HEADS)
    assert cells[4:7] == ["0.9480", "1 / 0 of 3", "3.0"]
    assert cells[-2:] == ["trained, 1 of 2 ops", "not behind"]
