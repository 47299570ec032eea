"""How the speed of int8 is told; nothing is timed."""

from __future__ import annotations

from functools import partial

import old_engine
import pytest
import today
import todays_nets
import torch
import turns
import zoo_speed
from torch import nn
from turns import Spread, Turns


class Clock:
    """Each call of one kind takes so many seconds, the first of a turn nine more."""

    def __init__(self, **seconds: float) -> None:
        self.now, self.said = 0.0, ""
        self.calls = {name: partial(self.call, name, one) for name, one in seconds.items()}

    def call(self, name: str, seconds: float) -> None:
        self.now += seconds + (0 if self.said[-1:] == name else 9)
        self.said += name

    def __call__(self) -> float:
        return self.now


def test_the_order_alternates_and_the_first_call_of_a_turn_is_not_timed() -> None:
    clock = Clock(a=2.0, b=1.0)
    found = turns.in_turns(clock.calls, rounds=4, clock=clock)
    assert clock.said.endswith("aabb" + "bbaa" + "aabb" + "bbaa")
    assert found.seconds == {"a": [2.0] * 4, "b": [1.0] * 4}


def test_short_calls_are_timed_many_at_a_time() -> None:
    clock = Clock(a=0.006, b=1.0)
    found = turns.in_turns(clock.calls, rounds=2, clock=clock)
    assert clock.said.endswith("b" * 2 + "b" * 2 + "a" * 5)
    assert found.ms("a") == pytest.approx(6)


def test_a_ratio_is_of_each_round_and_has_its_quarters() -> None:
    found = Turns({"fp32": [2.0, 6.0, 12.0], "int8": [2.0, 3.0, 4.0]})
    assert found.ratio("fp32", "int8") == Spread(1.5, 2.0, 2.5)
    assert str(found.ratio("fp32", "int8")) == "2.00 (1.50-2.50)"
    assert found.ms("fp32") == 6000


def test_the_error_is_of_all_answers_together() -> None:
    wanted = [torch.tensor([3.0]), torch.tensor([[0.0, 4.0]])]
    found = [torch.tensor([3.0]), torch.tensor([[0.5, 4.0]])]
    assert today.error(found, wanted) == pytest.approx(0.1)
    assert today.error(wanted[0], wanted[0]) == 0


def test_a_goal_is_one_of_one_thread() -> None:
    assert today.against_goal(Spread(1, 2, 3), 2.0, 1) == "met, 2.0"
    assert today.against_goal(Spread(1, 2, 3), 2.1, 1) == "NOT MET, 2.1"
    assert today.against_goal(Spread(1, 2, 3), 2.1, 2) == ""


def test_what_took_the_old_engine_long_may_not_take_longer() -> None:
    assert today.against_old(Spread(1.8, 1.9, 2.0), 100, 2.0) == "met, 2.00: 1.05x its time"
    assert today.against_old(Spread(1.8, 1.9, 1.95), 100, 2.0) == "NOT MET, 2.00: 1.05x its time"
    assert today.against_old(Spread(1, 1, 1), 100, None) == ""


def test_what_took_it_less_than_2_ms_may_take_half_as_much_again() -> None:
    assert today.against_old(Spread(1.4, 1.4, 1.4), 3.9, 2.0).startswith("met")
    assert today.against_old(Spread(1.3, 1.3, 1.3), 3.9, 2.0).startswith("NOT MET")


def test_a_row_has_a_cell_for_each_head() -> None:
    found = Turns({"fp32": [0.02, 0.02], "int8": [0.01, 0.01]})
    cells = today.cells(("net", 8, 1), found, 1.7, 1.5)
    assert [*cells[:5], cells[6]] == ["net", "8", "1", "20.00", "10.00", "met, 1.7"]
    assert len(cells) + len(["error", "ops"]) == len(today.HEADS)


def test_nothing_named_is_all_nets_and_quick_is_few() -> None:
    def asked(text: str):
        return today.settled(today.arguments("About.").parse_args(text.split()))

    assert asked("").net == list(todays_nets.NETS)
    assert asked("--quick").net == list(today.QUICK)
    assert asked("--quick").rounds < asked("").rounds
    assert asked("--threads 2 --batch 1,8").batch == [1, 8]
    assert asked("--cpu-time").threads == [1]


def test_a_net_and_its_data_are_always_the_same() -> None:
    kind = todays_nets.NETS["planted net"]
    one, other = kind.made(), kind.made()
    assert not one.training
    assert torch.equal(one(kind.data(2, 1)), other(kind.data(2, 1)))
    assert not torch.equal(kind.data(2, 1), kind.data(2, 2))
    norms = [layer for layer in one.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert all(norm.running_mean.abs().max() > 0 for norm in norms)


def test_goals_are_of_batches_that_are_measured() -> None:
    for kind in todays_nets.NETS.values():
        assert set(kind.goals) <= set(kind.batches)


def test_work_is_known_by_the_names_of_ops() -> None:
    class Own(nn.Linear):
        def forward(self, x):
            return super().forward(x) + nn.functional.linear(x, self.weight * 2)

    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), Own(4, 4), nn.Conv1d(2, 2, 1))
    found = zoo_speed.work_of(zoo_speed.Asked(net), ((torch.ones(2, 4),), {}), rounds=2)
    assert list(found) == ["net.0", "net.2#linear_0", "net.2#linear_1", "net.3"]
    assert all(seconds > 0 for seconds in found.values())


def test_the_share_is_of_seconds() -> None:
    assert zoo_speed.share({"a": 3.0, "b": 1.0}, ("a",)) == 0.75
    assert zoo_speed.share({}, ()) == 1


def test_a_zoo_net_is_slower_only_where_nearly_all_rounds_say_so() -> None:
    def told(int8: list[float], part: float) -> str:
        found = Turns({"fp32": [1.0] * len(int8), "int8": int8})
        return zoo_speed.cells("net", found, part, (1, 0, 0))[-1]

    assert told([1.0, 1.1], 0.9) == "met"
    assert told([1.1, 1.1], 0.9) == "NOT MET: slower"
    assert told([1.1, 1.1], 0.8) == "NOT MET: slower, fp32"
    assert len(zoo_speed.cells("net", Turns({"fp32": [1, 1], "int8": [1, 1]}), 1, ())) == len(
        zoo_speed.HEADS
    )


def test_the_nets_of_both_zoos_can_be_called() -> None:
    scene = zoo_speed.scenes()["small: keywords"]()
    args, kwargs = scene.calls[0]
    assert scene.net(*args, **kwargs)["logits"].shape == (16, 3)


def test_figures_of_the_old_engine_are_of_nets_and_batches_that_are_measured() -> None:
    for figures in old_engine._SPEEDUPS.values():
        for net, batch, _ in figures:
            assert batch in todays_nets.NETS[net].batches
    assert old_engine.old_speedup("planted net", 1, 1, "avx2") == 2.26
    assert old_engine.old_speedup("planted net", 1, 1, "another") is None
