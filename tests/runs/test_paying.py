"""Which ops do not pay: by made-up seconds, so that no clock decides a test."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from made_up import INT8, linear, space_of
from small_run import NO_REPAIR, Agreement, net, run

from lpot_lightning.recipe import Recipe, Rung
from lpot_lightning.runs import paying
from lpot_lightning.runs.paying import RUNS, applies, judged
from lpot_lightning.runs.paying_result import NotPaying, OpTimes, Paying
from lpot_lightning.runs.tuning_result import read_result
from lpot_lightning.timing.ratio import ENOUGH
from lpot_lightning.tuning.space import Space

Pairs = Mapping[str, tuple[float, float]]
SLOW = Paying(
    {"narrow": OpTimes(0.004, 0.001), "first": OpTimes(0.001, 0.002)},
    {"narrow": NotPaying(ops=("narrow",), int8=0.004, fp32=0.001, spread=(0.2, 0.3), share=0.5)},
)


class MadeUp:
    """Ops that take in int8 and in fp32 what is given, and ``entry`` where a chain is cut."""

    def __init__(
        self,
        pairs: Pairs,
        chains: tuple[tuple[str, ...], ...] = (),
        *,
        noise: Callable[[], float] = lambda: 1.0,
        entry: float = 0.0,
        step: float | None = None,
    ) -> None:
        self.pairs, self.noise, self.entry, self.runs = pairs, noise, entry, 0
        self.chains = chains or tuple((op,) for op in pairs)
        self.step = sum(int8 for int8, _ in pairs.values()) if step is None else step

    def seconds(self, recipe: Recipe) -> dict[str, float]:
        self.runs += 1
        fp32 = set(recipe.fp32_ops)
        found = {op: self.noise() * pair[op in fp32] for op, pair in self.pairs.items()}
        for chain in self.chains:
            cuts = sum((a in fp32) != (b in fp32) for a, b in zip(chain, chain[1:], strict=False))
            found[chain[0]] += self.entry * cuts
        return found


def found_of(ops: MadeUp, space: Space | None = None) -> Paying:
    """Return what is found where time stands still."""
    return judged(ops, space or space_of(ops.pairs), now=lambda: 0.0)


def slower(ops: MadeUp, space: Space | None = None) -> set[str]:
    return {*found_of(ops, space).slower}


def test_an_op_that_fp32_is_faster_at_does_not_pay() -> None:
    ops = MadeUp({"a": (1.0, 2.0), "b": (3.0, 1.0), "c": (1.0, 0.96)})
    found = found_of(ops)
    assert found.slower == {
        "b": NotPaying(ops=("b",), int8=3.0, fp32=1.0, spread=(1 / 3, 1 / 3), share=0.6)
    }
    assert found.times == {"a": OpTimes(1.0, 2.0), "b": OpTimes(3.0, 1.0), "c": OpTimes(1.0, 0.96)}
    assert not found.all_slower


def test_where_all_pay_a_few_runs_are_enough() -> None:
    ops = MadeUp({"a": (1.0, 2.0), "b": (1.0, 1.1)})
    assert slower(ops) == set()
    assert ops.runs == 2 * paying.LOOKS


def test_a_clear_verdict_takes_no_more_runs_than_needed() -> None:
    ops = MadeUp({"a": (1.0, 2.0), "b": (3.0, 1.0)})
    slower(ops)
    assert ops.runs == 2 * (paying.LOOKS + ENOUGH)


def test_of_a_step_that_is_short_anyhow_nothing_is_judged() -> None:
    pairs = {"a": (1e-3, 2e-3), "b": (9e-4, 1e-4)}
    assert slower(MadeUp(pairs, step=1.9e-3)) == set()
    assert slower(MadeUp(pairs, step=2.1e-3)) == {"b"}


def test_an_op_of_less_than_a_hundredth_of_a_step_is_left_alone() -> None:
    assert slower(MadeUp({"a": (1.0, 2.0), "b": (0.9, 0.1)}, step=100.0)) == set()
    assert slower(MadeUp({"a": (1.0, 2.0), "b": (1.1, 0.1)}, step=100.0)) == {"b"}


def test_where_none_pays_it_is_said_and_all_are_int8() -> None:
    found = found_of(MadeUp({"a": (2.0, 1.0), "b": (3.0, 1.0)}))
    assert (found.slower, found.all_slower) == ({}, True)


@pytest.mark.parametrize(("other", "all_slower"), [("embedding", True), ("net#linear_0", False)])
def test_an_embedding_alone_is_no_net_in_int8(other: str, all_slower: bool) -> None:
    found = found_of(MadeUp({"a": (2.0, 1.0)}), Space((linear("a"), linear(other))))
    assert (set(found.slower), found.all_slower) == (set() if all_slower else {"a"}, all_slower)


def test_what_must_be_int8_is_not_asked() -> None:
    space = Space((linear("a"), linear("b", [INT8]), linear("c")))
    ops = MadeUp({"a": (1.0, 2.0), "b": (3.0, 1.0), "c": (3.0, 1.0)})
    assert slower(ops, space) == {"c"}


def test_a_chain_leaves_as_a_whole_where_each_of_it_is_slower() -> None:
    ops = MadeUp({"a": (1.0, 2.0), "b": (3.0, 1.0), "c": (2.0, 1.0)}, (("a",), ("b", "c")))
    found = found_of(ops).slower
    assert found["b"] is found["c"]
    assert (found["b"].ops, found["b"].int8, found["b"].fp32) == (("b", "c"), 5.0, 2.0)


def test_one_op_of_a_chain_leaves_if_it_pays_for_the_way_to_floats_and_back() -> None:
    pairs, chain = {"a": (1.0, 3.0), "b": (3.0, 1.0), "c": (1.0, 3.0)}, (("a", "b", "c"),)
    assert slower(MadeUp(pairs, chain, entry=0.5)) == {"b"}
    assert slower(MadeUp(pairs, chain, entry=1.0)) == set()


def test_noise_makes_no_op_slower() -> None:
    wrong = 0
    for seed in range(40):
        draw = random.Random(seed)
        ops = MadeUp(
            {f"op{number}": (1.0, 1.05) for number in range(20)},
            noise=lambda draw=draw: draw.choice([1.0, 1.0, 1.1, 1.3, 6.0]),  # type: ignore[misc]
        )
        wrong += bool(slower(ops))
    assert wrong <= 2


def test_an_op_that_takes_thrice_as_long_is_found_on_a_loaded_machine() -> None:
    for seed in range(10):
        draw = random.Random(seed)
        pairs = {f"op{number}": (1.0, 2.0) for number in range(10)} | {"slow": (3.0, 1.0)}
        noise = lambda draw=draw: draw.choice([1.0, 1.0, 1.1, 1.5, 3.0])  # noqa: E731
        assert slower(MadeUp(pairs, noise=noise)) == {"slow"}  # type: ignore[arg-type]


def test_no_more_is_run_than_there_is_time_for() -> None:
    pairs = {"a": (1.0, 2.0), "b": (3.0, 1.0)}

    def runs_and_slower(seconds: float) -> tuple[int, set[str]]:
        ops, clock = MadeUp(pairs), count()
        found = judged(ops, space_of("ab"), seconds, lambda: float(next(clock)))
        return ops.runs // 2, set(found.slower)

    assert runs_and_slower(0.5) == (1, set())
    assert runs_and_slower(paying.LOOKS + 5) == (paying.LOOKS + 5, set())  # too few to be sure
    assert runs_and_slower(paying.LOOKS + 7) == (paying.LOOKS + 7, {"b"})
    assert runs_and_slower(1000.0) == (paying.LOOKS + ENOUGH, {"b"})


def test_what_stays_unsure_is_given_up_in_the_end() -> None:
    draw = random.Random(0)
    ops = MadeUp({"a": (1.0, 2.0), "b": (1.0, 0.95)}, noise=lambda: draw.uniform(1.0, 1.5))
    assert slower(ops) == set()
    assert ops.runs <= 2 * (paying.LOOKS + RUNS)


def test_what_was_found_can_be_kept() -> None:
    assert Paying.from_dict(json.loads(json.dumps(SLOW.to_dict()))) == SLOW


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let runs ask what pays, and be told that ``narrow`` does not; return who asked."""
    monkeypatch.setattr(paying, "applies", applies)  # no other test may ask
    asked: list[Any] = []

    def found(ops: Any, space: Space, seconds: float) -> Paying:
        asked.append(ops)
        return SLOW

    monkeypatch.setattr(paying, "judged", found)
    return asked


@pytest.mark.usefixtures("with_graphs")
def test_auto_has_it_in_fp32_from_the_first_trial_on(heard: list[Any]) -> None:
    said: list[str] = []
    result = run(net(), said=said)
    assert result.trials[0].recipe.fp32_ops == result.fp32_ops == ("narrow",)
    assert result.not_paying == SLOW.slower
    assert "stays in fp32: narrow: int8 is slower: 4 ms against 1 ms, at least 3.33x" in str(said)
    assert "in fp32, int8 is slower  narrow" in result.table()
    assert [chain for one in heard for chain in one.chains] == [("first", "last", "narrow", "wide")]


def test_no_later_trial_gives_it_back(heard: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    last = Paying({}, {"last": replace(SLOW.slower["narrow"], ops=("last",))})
    monkeypatch.setattr(paying, "judged", lambda *_: last)
    result = run(net(fragile=True), quantization=NO_REPAIR)
    assert len(result.trials) > 1
    assert all("last" in trial.recipe.fp32_ops for trial in result.trials)
    assert result.fp32_ops == ("narrow", "last")


def test_a_run_that_goes_on_takes_what_was_found(heard: list[Any], tmp_path: Path) -> None:
    first = run(net(), folder=tmp_path)
    again = run(net(), folder=tmp_path)
    assert len(heard) == 1
    assert again.trials[0].replayed
    assert again.op_times == first.op_times
    assert read_result(tmp_path / "result.json").not_paying == SLOW.slower


@pytest.mark.parametrize(
    "tuning",
    [
        {"strategy": {"name": "basic"}},
        {"strategy": {"name": "mse"}},
        {"objective": "modelsize"},
        {"objective": "footprint"},
    ],
)
def test_others_do_not_ask(heard: list[Any], tuning: dict[str, Any]) -> None:
    assert run(net(), **tuning).fp32_ops == ()
    assert not heard


def test_op_wise_overrides_it(heard: list[Any]) -> None:
    asked = {"op_wise": {"narrow": {"activation": {"dtype": ["uint8"]}}}}
    result = run(net(), quantization=asked)
    assert (result.fp32_ops, result.not_paying) == ((), {})


def test_the_table_of_ops_tells_times_and_why(heard: list[Any]) -> None:
    fp32 = {"activation": {"dtype": ["fp32"]}}
    result = run(net(), quantization={"op_wise": {"last": fp32}})
    assert result.ops_table().splitlines() == [
        "op      precision  ms in int8  in fp32  why",
        "first   int8                1        2",
        "last    fp32                -        -  asked for",
        "narrow  fp32                4        1  int8 is slower: 4 ms against 1 ms, at",
        "                                        least 3.33x as long, 50.0% of a step",
        "wide    int8                -        -",
    ]


def test_the_batch_of_the_user_is_what_is_timed(heard: list[Any]) -> None:
    shown: list[int] = []

    class Watched(Agreement):
        def step_seconds(self, model: Any, runs: int = 1) -> list[float]:
            handle = model.register_forward_pre_hook(lambda _, args: shown.append(len(args[0])))
            with handle:
                return super().step_seconds(model, runs)

    run(net(), Watched(net()))
    assert set(shown) == {64}


def test_why_ops_of_a_short_step_stay_int8_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Short(Agreement):
        def step_seconds(self, model: Any, runs: int = 1) -> list[float]:
            return [0.0015 for _ in super().step_seconds(model, runs)]

    monkeypatch.setattr(paying, "applies", applies)
    monkeypatch.setattr(paying, "judged", lambda *_: Paying(SLOW.times))
    short, long = list[str](), list[str]()
    run(net(), Short(net()), said=short)
    run(net(), said=long)
    rule = (
        "a step takes 1.5 ms in int8, less than 2 ms, mostly calls: ops stay int8 though fp32 is"
        " faster: narrow"
    )
    assert (rule in short, rule in long) == (True, False)
    assert not any("ops stay int8" in one for one in long)


def too_coarse(*_: Any) -> Any:
    raise ValueError("too coarse")


class Raising(Agreement):
    """Takes no model in int8 the first time."""

    def evaluate(self, model: Any, label: str, watch: Any = None) -> Any:
        return too_coarse() if " 1 of " in label else super().evaluate(model, label, watch)


def test_a_step_that_fails_in_int8_is_told_by_its_trial_and_the_next_one_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(paying, "applies", applies)
    monkeypatch.setattr(paying, "judged", too_coarse)
    said: list[str] = []
    result = run(net(), Raising(net()), said=said)
    assert "int8 cannot be timed (ValueError: too coarse): no op stays in fp32 for its time" in said
    assert result.trials[0].score.failure == "ValueError: too coarse"
    assert [trial.score.failed for trial in result.trials][:2] == [True, False]
    assert result.status == "met"


def test_what_was_asked_of_the_conf_is_no_matter_of_accuracy() -> None:
    result = run(net(fragile=True), quantization=NO_REPAIR)
    assert "for the accuracy" in result.ops_table()
    slow = replace(result, not_paying={result.fp32_ops[0]: SLOW.slower["narrow"]})
    assert slow.ops_table().count("for the accuracy") == len(result.fp32_ops) - 1


def test_an_op_that_went_down_a_rung_did_so_for_the_accuracy() -> None:
    result = replace(run(net()), op_times={"narrow": OpTimes(2.0, 1.0)})
    assert "no faster in int8" in result.ops_table()
    lower = replace(result, rungs={**result.rungs, "narrow": Rung.WEIGHT_ONLY.value})
    assert [line.split()[:3] for line in lower.ops_table().splitlines() if "accuracy" in line] == [
        ["narrow", "weight-only", "int8"]
    ]
