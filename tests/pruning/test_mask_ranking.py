"""The lowest of many scores."""

from __future__ import annotations

import pytest
import torch

from lpot_lightning.pruning.mask_ranking import lowest, lowest_in_rows, lowest_of_all, share_of


@pytest.mark.parametrize("count", [0, 1, 5, 11, 12])
def test_exactly_as_many_as_asked_for(count):
    scores = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    chosen = lowest(scores, count)
    assert int(chosen.sum()) == count
    if 0 < count < 12:
        assert scores[chosen].max() < scores[~chosen].min()


def test_of_equal_ones_the_first():
    scores = torch.tensor([1.0, 0.0, 1.0, 1.0, 2.0])
    assert lowest(scores, 3).tolist() == [True, True, True, False, False]


def test_all_equal():
    assert lowest(torch.zeros(4), 2).tolist() == [True, True, False, False]


def test_over_several_tensors():
    one, other = lowest_of_all([torch.tensor([[3.0, 1.0]]), torch.tensor([2.0, 0.0, 9.0])], 3)
    assert one.tolist() == [[False, True]]
    assert other.tolist() == [True, True, False]


@pytest.mark.parametrize("count", range(13))
def test_each_row_loses_as_many_to_within_one(count):
    scores = torch.rand(3, 4, generator=torch.Generator().manual_seed(1))
    chosen = lowest_in_rows(scores, count)
    each = chosen.sum(dim=1)
    assert int(each.sum()) == count
    assert int(each.max() - each.min()) <= 1
    for row, gone in zip(scores, chosen, strict=True):
        assert not gone.any() or gone.all() or row[gone].max() < row[~gone].min()


def test_the_row_that_loses_one_more_is_where_it_costs_least():
    scores = torch.tensor([[1.0, 5.0], [1.0, 3.0]])
    assert lowest_in_rows(scores, 3).tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize(
    ("count", "sparsity", "gone"), [(10, 0.25, 3), (10, 0.24, 2), (3, 1.0, 3), (3, 0.0, 0)]
)
def test_the_nearest_whole_number_goes(count, sparsity, gone):
    assert share_of(count, sparsity) == gone
