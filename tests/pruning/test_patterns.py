"""Which weights go together."""

from __future__ import annotations

import pytest
import torch

from lpot_lightning.pruning.patterns import Blocks, NOfM, Tiles, pattern_of

LINEAR, CONV, CONV1D = (8, 32), (8, 16, 4, 16), (8, 16, 4)
PATTERNS = ["tile_pattern_1x1", "tile_pattern_2x2", "tile_pattern_1x16", "4x1", "2x8", "2:4"]


def test_names_of_the_yaml():
    assert pattern_of("tile_pattern_1x16") == Tiles(1, 16)
    assert pattern_of("4x1") == Blocks(4, 1)
    assert pattern_of("2:4") == NOfM(2, 4)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [LINEAR, CONV])
@pytest.mark.parametrize("text", PATTERNS)
def test_what_is_reduced_expands_to_where_it_came_from(text, shape, transposed):
    pattern = pattern_of(text)
    shape = (shape[1], shape[0], *shape[2:]) if transposed else shape
    if text.startswith("tile") and pattern.misfit(shape, transposed):
        return
    sums = pattern.reduce(torch.ones(shape), transposed)
    numbers = torch.arange(sums.numel()).reshape(sums.shape)
    spread = pattern.expand(numbers, shape, transposed)
    assert spread.shape == shape
    assert torch.equal(spread.unique(return_counts=True)[1], sums.flatten().long())
    assert torch.equal(pattern.reduce(spread.float(), transposed), numbers * sums)


def test_a_tile_lies_in_the_last_two_dimensions():
    weight = torch.zeros(2, 3, 4, 4)
    weight[1, 2, :2, 2:] = 1
    sums = Tiles(2, 2).reduce(weight, False)
    assert sums.shape == (2, 3 * 4)
    assert sums.nonzero().tolist() == [[1, 2 * 4 + 1]]


def test_a_block_holds_outputs_and_inputs_at_one_place_of_the_kernel():
    weight = torch.zeros(4, 6, 3, 3)
    weight[2:, 4:, 1, 2] = 1
    sums = Blocks(2, 2).reduce(weight, False)
    assert sums.shape == (2, 9 * 3)
    assert sums[sums != 0].tolist() == [4.0]
    assert Blocks(2, 2).expand(sums != 0, weight.shape, False).equal(weight != 0)


def test_of_a_transposed_convolution_outputs_come_second():
    weight = torch.zeros(6, 4, 3, 3)
    weight[4:, 2:, 1, 2] = 1
    sums = Blocks(2, 2).reduce(weight, True)
    assert sums.shape == (2, 9 * 3)
    assert Blocks(2, 2).expand(sums != 0, weight.shape, True).equal(weight != 0)


def test_two_of_four_inputs_may_go():
    scores = torch.tensor([[4.0, 1.0, 3.0, 2.0, 0.0, 0.0, 0.0, 0.0]])
    assert NOfM(2, 4).candidates(scores).tolist() == [
        [False, True, False, True, True, True, False, False]
    ]


@pytest.mark.parametrize(
    ("text", "shape", "why"),
    [
        ("tile_pattern_2x2", (8, 3, 3, 3), "its last two dimensions are 3x3"),
        ("tile_pattern_1x16", (8, 10), "its last two dimensions are 8x10"),
        ("4x1", (6, 8), "it has 6 outputs x 8 inputs"),
        ("2:4", (8, 3, 7, 7), "it has 3 inputs"),
        ("2:4", (8, 4, 7, 7), None),
        ("1x16", (8, 16, 3), None),
    ],
)
def test_a_weight_that_does_not_divide_is_told(text, shape, why):
    assert pattern_of(text).misfit(shape, False) == why
