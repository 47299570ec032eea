"""Running ranges: torch's formula, one batch or many, one process or several."""

import copy

import pytest
import torch
from torch import nn
from torch.ao.quantization.observer import MovingAverageMinMaxObserver

from lpot_lightning.errors import DataError
from lpot_lightning.quantization.fx.fake_quant import FakeQuant, rounded_weight
from lpot_lightning.quantization.fx.ranges import (
    MOMENTUM,
    UNSEEN,
    Ranges,
    check_finite,
    trained_ranges,
)


def looking(ranges, place=0):
    return FakeQuant(ranges, place, nn.Module().train())


def batches(count=6, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(64, generator=draw) * (1 + i) + i for i in range(count)]


@pytest.mark.parametrize("reduce_range", [False, True])
def test_ranges_are_those_of_torchs_moving_average(reduce_range):
    ranges = Ranges(1, reduce_range=reduce_range)
    theirs = MovingAverageMinMaxObserver(
        averaging_constant=MOMENTUM, dtype=torch.quint8, quant_min=0, quant_max=ranges.highest
    )
    one = looking(ranges)
    for batch in batches():
        one(batch)
        theirs(batch)
        ranges.end_batch()
    scale, zero_point = theirs.calculate_qparams()
    (found,) = trained_ranges(ranges.state())
    assert found.scale == pytest.approx(float(scale))
    assert found.zero_point == int(zero_point)


def test_ranges_keep_up_with_a_model_that_learns():
    ranges = Ranges(1, reduce_range=False)
    one = looking(ranges)
    for grown in torch.linspace(0.1, 2, 100):
        one(torch.tensor([-1.0, 1.0]) * grown)
        ranges.end_batch()
    assert float(ranges.high) > 1.7


def test_places_do_not_mix():
    ranges = Ranges(3, reduce_range=False)
    looking(ranges, 1)(torch.tensor([-1.0, 2.0]))
    assert ranges.seen == [False, True, False]
    assert trained_ranges(ranges.state())[0].unusable == UNSEEN
    assert not trained_ranges(ranges.state())[1].unusable


def test_several_processes_come_to_what_one_sees_of_all_batches():
    alone, shared = Ranges(1, reduce_range=False), [Ranges(1, reduce_range=False) for _ in "ab"]
    for left, right in zip(batches(seed=1), batches(seed=2), strict=True):
        looking(alone)(torch.cat([left, right]))
        alone.end_batch()
        for own, batch in zip(shared, (left, right), strict=True):
            looking(own)(batch)
        sent = [torch.cat((-own.low, own.high)) for own in shared]
        for own in shared:
            own.end_batch(lambda both, sent=sent: both.copy_(torch.maximum(*sent)))
    for own in shared:
        for name, value in own.state().items():
            assert torch.allclose(value, alone.state()[name], rtol=1e-6)
    assert all(
        torch.equal(a, b) for a, b in zip(*(o.state().values() for o in shared), strict=True)
    )


def test_a_process_that_saw_nothing_takes_what_others_saw():
    ranges = Ranges(1, reduce_range=False)
    ranges.end_batch(lambda both: both.copy_(torch.tensor([1.0, 2.0])))
    assert ranges.seen == [True]
    assert (float(ranges.low), float(ranges.high)) == (-1, 2)


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_a_batch_that_is_not_finite_is_as_if_it_had_not_been_seen(bad):
    ranges = Ranges(2, reduce_range=False)
    one, other = looking(ranges, 0), looking(ranges, 1)
    one(torch.tensor([-1.0, 2.0]))
    ranges.end_batch()
    before = ranges.state()
    one(torch.tensor([0.0, bad]))
    other(torch.tensor([3.0, 4.0]))
    ranges.end_batch()
    after = ranges.state()
    assert all(torch.equal(before[name][:1], after[name][:1]) for name in before)
    assert float(after["high"][1]) == 4


def test_a_training_that_ends_in_nan_is_told():
    ranges = Ranges(2, reduce_range=False)
    ranges.scale[1] = float("nan")
    with pytest.raises(DataError, match="1 of 2 activations are not finite"):
        check_finite(ranges)


def test_a_copy_learns_for_itself():
    ranges = Ranges(1, reduce_range=False)
    looking(ranges)(torch.tensor([-1.0, 2.0]))
    second = copy.deepcopy(ranges)
    looking(second)(torch.tensor([-9.0, 9.0]))
    assert float(ranges.high) == 2
    assert float(second.high) > 2


@pytest.mark.parametrize("axis", [0, None])
def test_the_largest_weight_of_a_channel_learns_too(axis):
    weight = torch.tensor([[1.0, -0.5], [0.25, 2.0]], requires_grad=True)
    rounded_weight(weight, axis).sum().backward()
    assert torch.equal(weight.grad, torch.ones(2, 2))
