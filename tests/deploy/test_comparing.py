"""How far answers are from others."""

from __future__ import annotations

import pytest
import torch

from lpot_lightning.deploy.comparing import MOST_TOLERANCE, TOLERANCE, distance, tolerance

SCORES = torch.tensor([[1.0, 5.0, 0.0], [4.0, 3.0, 0.0]])


def test_what_is_equal_is_not_far():
    far = distance([SCORES], [SCORES])
    assert (far.largest, far.relative, far.agreement, far.decided) == (0, 0, 1, 0)
    assert far.samples == 2


def test_differences_are_relative_to_what_is_wanted():
    far = distance([torch.tensor([3.0, 4.5])], [torch.tensor([3.0, 4.0])])
    assert far.largest == 0.5
    assert far.relative == pytest.approx(0.1)
    assert far.agreement is None


def test_a_large_tensor_hides_no_small_one():
    large = torch.full((2, 3), 1e6)
    assert distance([large, SCORES * 2], [large, SCORES]).relative == pytest.approx(1.0)


def test_another_greatest_score_is_clear_or_near():
    near, clear = SCORES.clone(), SCORES.clone()
    near[1] = torch.tensor([3.0, 3.01, 0.0])
    clear[1] = torch.tensor([0.0, 3.0, 0.0])
    assert distance([clear], [SCORES]).agreement == 0.5
    assert distance([clear], [SCORES]).decided == 0.5
    assert distance([SCORES], [near]).agreement == 0.5
    assert distance([SCORES], [near]).decided == 0.0


@pytest.mark.parametrize("found", [torch.zeros(2, 2), torch.full((2, 3), float("nan")), SCORES / 0])
def test_other_shapes_and_infinities_are_endlessly_far(found):
    assert distance([found], [SCORES]).relative == float("inf")


def test_infinities_in_the_same_places_are_not_far():
    masked = SCORES.masked_fill(SCORES == 0, -float("inf"))
    assert distance([masked], [masked]).relative == 0


def test_more_is_let_pass_where_single_integers_count():
    assert tolerance([SCORES], [SCORES]) == TOLERANCE
    assert tolerance([SCORES * 1.05], [SCORES]) == pytest.approx(0.15)
    assert tolerance([SCORES * 3], [SCORES]) == MOST_TOLERANCE
