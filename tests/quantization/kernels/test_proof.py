from __future__ import annotations

import pytest
import torch
from grid_scenes import grid_over
from torch import nn

from lpot_lightning.quantization.kernels.arithmetic import ConvGeometry, Int8Weight
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.layers import Int8Conv, Int8Linear
from lpot_lightning.quantization.kernels.proof import shapes_like, wrong_kernel


class Broken(Int8Linear):
    def _kernel(self, x, scale, post_op, other):
        found = super()._kernel(x, scale, post_op, other)
        if len(x) > 2:  # right for one sample, as torch's int8 norm of instances is
            found[-1] += 1
        return found


class BrokenForTheMost(Int8Linear):
    def _kernel(self, x, scale, post_op, other):
        found = super()._kernel(x, scale, post_op, other)
        if bool((x == self.x.high).all()):  # of equal samples wrong for the last
            found[-1] += 1
        return found


class Failing(Int8Linear):
    def _kernel(self, x, scale, post_op, other):
        raise RuntimeError("no such kernel\nand more")


def layer(kind: type[Int8Linear], out: Grid | None) -> Int8Linear:
    return kind(Int8Weight.of(nn.Linear(8, 4).weight), grid_over(-1, 1), out)


@pytest.mark.parametrize("out", [None, Grid.over(-1, 1)])
def test_a_wrong_kernel_is_told(out):
    broken = layer(Broken, out)
    said = wrong_kernel(broken, shapes_like((32, 8)))
    assert said is not None
    assert said.startswith("its int8 kernel is wrong for an input of [3, 8]: ")
    assert wrong_kernel(broken, [(1, 8)]) is None
    assert broken.exact is False


class LastWrong(Int8Conv):
    def _like(self, weight, x, out, post_op):
        return type(self)(weight, x, self.geometry, out, post_op)

    def _kernel(self, x, scale, post_op, other):
        found = super()._kernel(x, scale, post_op, other)
        found[:, -1] += 1
        return found


@pytest.mark.parametrize("groups", [1, 2, 8, 32])
def test_of_a_convolution_in_groups_some_are_compared_with_what_they_read(groups):
    torch.manual_seed(0)
    weight = Int8Weight.of(torch.randn(64, 32 // groups, 3, 3), torch.randn(64))
    geometry = ConvGeometry((1, 1), (1, 1), (1, 1), groups)
    given = weight, grid_over(-1, 1), geometry
    assert wrong_kernel(Int8Conv(*given), [(3, 32, 6, 6)]) is None
    assert wrong_kernel(LastWrong(*given), [(3, 32, 6, 6)]) is not None


@pytest.mark.parametrize("out", [None, Grid.over(-100, 100)])
def test_a_kernel_is_told_that_is_wrong_for_one_of_equal_samples(out):
    said = wrong_kernel(layer(BrokenForTheMost, out), [(3, 8)])
    assert said is not None
    assert said.startswith("its int8 kernel is wrong for an input of [3, 8]: ")


def test_a_proof_leaves_nothing_prepared():
    proved = layer(Int8Linear, None)
    wrong_kernel(proved, shapes_like((32, 8)))
    assert proved._pack._made is None


def test_so_is_one_that_fails():
    said = wrong_kernel(layer(Failing, None), [(1, 8)])
    assert said == (
        "its int8 kernel is wrong for an input of [1, 8]: it fails (RuntimeError: no such kernel)"
    )


def test_below_it_the_arithmetic_is_right():
    broken, x = layer(Broken, None), grid_over(-1, 1).quantize(torch.randn(5, 8))
    broken.exact = True
    kernel = layer(Int8Linear, None)
    kernel.load_state_dict(broken.state_dict())
    torch.testing.assert_close(broken(x), kernel(x), rtol=1e-5, atol=1e-6)


def test_images_are_proved_in_batches_above_and_below_their_places():
    assert shapes_like((16, 3, 2, 2)) == [(1, 3, 2, 2), (3, 3, 2, 2), (5, 3, 2, 2)]
    assert shapes_like((16, 8)) == [(1, 8), (2, 8), (3, 8)]
    assert shapes_like((16, 3, 32, 32)) == [(1, 3, 32, 32), (3, 3, 32, 32)]
