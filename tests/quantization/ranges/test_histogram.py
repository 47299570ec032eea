from __future__ import annotations

import itertools
import math

import pytest
import torch

from lpot_lightning.quantization.ranges.histogram import BINS, Histogram


def counted(*batches: torch.Tensor) -> Histogram:
    histogram = Histogram()
    for one in batches:
        histogram.count(one)
    return histogram


def drawn(seed: int, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(500, generator=torch.Generator().manual_seed(seed)) * scale + shift


def test_all_values_are_counted_where_they_are():
    x = drawn(0)
    seen = counted(x)
    assert (seen.least, seen.greatest) == (float(x.min()), float(x.max()))
    assert float(seen.counts.sum()) == 500
    mean = float((seen.counts * seen.centers).sum() / 500)
    assert mean == pytest.approx(float(x.double().mean()), abs=seen.width)
    assert seen.width <= 2 * (seen.greatest - seen.least) / (BINS - 2)


def test_the_order_of_batches_does_not_matter():
    batches = drawn(0), drawn(1, 1e-3), drawn(2, 50), drawn(3, 1, -200), torch.zeros(5)
    first, *others = (counted(*order) for order in itertools.permutations(batches))
    for one in others:
        assert one.statistics() == first.statistics()


def test_what_several_saw_is_merged_as_if_one_had_seen_it():
    batches = drawn(0), drawn(1, 1e-3), drawn(2, 50), drawn(3, 1, -200)
    merged = Histogram()
    merged.merge([counted(*batches[:2]).statistics(), counted(*batches[2:]).statistics()])
    assert merged.statistics() == counted(*batches).statistics()
    nothing = Histogram()
    nothing.merge([Histogram().statistics()] * 2)
    assert not nothing.batches


@pytest.mark.parametrize("scale", [1e-38, 1e-12, 1.0, 1e12, 3e38])
def test_any_scale_of_float32_is_held(scale):
    seen = counted(torch.tensor([0.0, scale, scale / 2]))
    assert float(seen.counts.sum()) == 3
    assert math.isfinite(seen.width)


def test_half_precision_and_empty_tensors():
    seen = counted(drawn(0).bfloat16(), torch.empty(0))
    assert (float(seen.counts.sum()), seen.batches, seen.refused) == (500, 1, "")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (torch.tensor([1.0, math.nan]), "works on NaN or infinity"),
        (torch.tensor([1.0, math.inf]), "works on NaN or infinity"),
        (torch.tensor([-math.inf]), "works on NaN or infinity"),
        (torch.tensor([1, 2]), "works on int64"),
    ],
)
def test_what_cannot_be_counted_is_refused_and_spoils_nothing(values, why):
    seen = counted(drawn(0), values)
    assert seen.refused == why
    assert float(seen.counts.sum()) == 500
    assert math.isfinite(seen.greatest)
    other = Histogram()
    other.merge([counted(drawn(1)).statistics(), seen.statistics()])
    assert other.refused == why


def test_the_data_and_its_graph_are_left_alone():
    x = drawn(0).requires_grad_()
    before = x.detach().clone()
    counted(x)
    assert torch.equal(x.detach(), before)
    assert x.grad is None
