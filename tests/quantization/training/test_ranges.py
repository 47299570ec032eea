"""Running ranges: one batch or many, one process or several, one layer or more."""

import copy

import pytest
import torch
from torch import nn

from lpot_lightning.errors import DataError
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.training.ranges import MOMENTUM, Ranges, grids_of


def fresh(size=1, *, bits=8):
    return Ranges([None] * size, bits=bits)


def batches(count=6, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(64, generator=draw) * (1 + i) + i for i in range(count)]


@pytest.mark.parametrize("bits", [7, 8])
def test_a_range_is_a_moving_average_and_its_grid_the_one_of_the_kernels(bits):
    ranges, low, high = fresh(bits=bits), None, None
    for batch in batches():
        ranges.rounded(0, batch)
        ranges.end_batch()
        least, most = float(batch.min()), float(batch.max())
        low = least if low is None else low + MOMENTUM * (least - low)
        high = most if high is None else high + MOMENTUM * (most - high)
    wanted = Grid.over(low, high, high=2**bits - 1)
    (found,) = grids_of(ranges.state(), bits=bits)
    assert found.scale == pytest.approx(wanted.scale, rel=1e-5)
    assert found.zero_point == wanted.zero_point


def test_it_rounds_as_the_grid_does():
    ranges, x = fresh(), torch.randn(1000) * 3
    found = ranges.rounded(0, x)
    (grid,) = grids_of(ranges.state(), bits=8)
    assert torch.equal(found, grid.dequantize(grid.quantize(x)))
    ranges.observing = False
    beyond = 2 * x
    assert torch.equal(ranges.rounded(0, beyond), grid.dequantize(grid.quantize(beyond)))


def test_what_is_cut_off_gets_no_gradient():
    ranges = fresh()
    ranges.rounded(0, torch.tensor([0.0, 2.55]))
    ranges.observing = False
    x = torch.tensor([-1.0, 0.0, 1.004, 2.55, 2.6], requires_grad=True)
    ranges.rounded(0, x).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]


def test_ranges_keep_up_with_a_model_that_learns():
    ranges = fresh()
    for grown in torch.linspace(0.1, 2, 100):
        ranges.rounded(0, torch.tensor([-1.0, 1.0]) * grown)
        ranges.end_batch()
    assert float(ranges.high) > 1.7


def test_places_do_not_mix():
    ranges = fresh(3)
    ranges.rounded(1, torch.tensor([-1.0, 2.0]))
    ranges.end_batch()
    assert ranges.seen == [False, True, False]
    assert [one is None for one in grids_of(ranges.state(), bits=8)] == [True, False, True]


def test_a_range_begins_with_the_calibration_and_is_that_of_the_first_batch_then():
    start = Grid.over(-100.0, 100.0)
    ranges, x = Ranges([start], bits=8), torch.tensor([-1.0, 2.0])
    ranges.observing = False
    wide = ranges.rounded(0, x)
    assert torch.allclose(wide, start.dequantize(start.quantize(x)))
    ranges.observing = True
    assert torch.allclose(ranges.rounded(0, x.clone()), x, atol=0.01)
    assert (float(ranges.low), float(ranges.high)) == (-1, 2)


def test_what_nothing_is_known_of_is_let_through():
    ranges, x, ids = fresh(), torch.randn(4), torch.tensor([1, 2])
    ranges.observing = False
    assert ranges.rounded(0, x) is x
    assert ranges.rounded(0, ids) is ids


def test_it_learns_in_the_mode_of_what_it_follows():
    ranges, model = fresh(), nn.Linear(2, 2).eval()
    ranges.follows = model
    ranges.rounded(0, torch.ones(2))
    assert not any(ranges.seen)
    model.train()
    ranges.rounded(0, torch.ones(2))
    assert all(ranges.seen)


def test_a_forward_that_a_backward_repeats_teaches_nothing():
    ranges, x = fresh(), torch.randn(64, requires_grad=True)
    again = []

    class Repeats(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return ranges.rounded(0, x.detach())

        @staticmethod
        def backward(ctx, grad):
            before = ranges.state()
            ranges.rounded(0, 5 * x.detach())
            again.append(
                all(torch.equal(one, before[name]) for name, one in ranges.state().items())
            )
            return grad

    Repeats.apply(x).sum().backward()
    assert again == [True]


def test_several_processes_come_to_what_one_sees_of_all_batches():
    alone, shared = fresh(), [fresh() for _ in "ab"]
    for left, right in zip(batches(seed=1), batches(seed=2), strict=True):
        alone.rounded(0, torch.cat([left, right]))
        alone.end_batch()
        for own, batch in zip(shared, (left, right), strict=True):
            own.rounded(0, batch)
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
    ranges = fresh()
    ranges.end_batch(lambda both: both.copy_(torch.tensor([1.0, 2.0])))
    assert ranges.seen == [True]
    assert (float(ranges.low), float(ranges.high)) == (-1, 2)
    assert not torch.equal(ranges.rounded(0, torch.tensor([0.3])), torch.tensor([0.3]))


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_a_batch_that_is_not_finite_is_as_if_it_had_not_been_seen(bad):
    ranges = fresh(2)
    ranges.rounded(0, torch.tensor([-1.0, 2.0]))
    ranges.end_batch()
    before = ranges.state()
    ranges.rounded(0, torch.tensor([0.0, bad]))
    ranges.rounded(1, torch.tensor([3.0, 4.0]))
    ranges.end_batch()
    after = ranges.state()
    assert all(torch.equal(before[name][:1], after[name][:1]) for name in before)
    assert float(after["high"][1]) == 4


def test_a_training_that_saw_nothing_finite_is_told():
    ranges = fresh(3)
    ranges.rounded(0, torch.tensor([0.0, float("nan")]))
    ranges.rounded(1, torch.tensor([0.0, float("-inf")]))
    ranges.end_batch()
    with pytest.raises(DataError, match="2 of 3 activations are not finite"):
        ranges.check_finite()
    ranges.rounded(0, torch.tensor([0.0, 1.0]))
    ranges.end_batch()
    ranges.check_finite()  # the other one is masked, as attention is


def test_a_copy_learns_for_itself():
    ranges = fresh()
    ranges.rounded(0, torch.tensor([-1.0, 2.0]))
    second = copy.deepcopy(ranges)
    second.rounded(0, torch.tensor([-9.0, 9.0]))
    assert float(ranges.high) == 2
    assert float(second.high) > 2


def test_what_several_layers_read_is_rounded_once():
    ranges, x = fresh(3), torch.randn(8, requires_grad=True)
    query = ranges.rounded(0, x)
    assert ranges.rounded(1, x) is query
    ranges.end_batch()
    assert torch.equal(ranges.high[0], ranges.high[1])
    y = torch.randn(8) * 9
    apart = ranges.rounded(0, y)
    assert ranges.rounded(2, y) is not apart  # it has seen other data, so its range is another
    assert not torch.equal(ranges.high[0], ranges.high[2])
    assert ranges.rounded(1, y) is not apart  # rounded last is what place 2 made of it


def test_a_tensor_that_was_written_to_is_rounded_anew():
    ranges, x = fresh(2), torch.tensor([-1.0, 1.0])
    first = ranges.rounded(0, x)
    x.mul_(3)
    assert float(ranges.rounded(1, x).max()) == pytest.approx(3, abs=0.02)
    assert float(first.max()) == pytest.approx(1, abs=0.01)
    assert float(ranges.high[1]) == 3
