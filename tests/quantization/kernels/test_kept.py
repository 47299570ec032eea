"""Weights that are kept as integers, in memory and in files of TorchScript."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lpot_lightning.quantization.kernels.arithmetic import Int8Weight
from lpot_lightning.quantization.kernels.kept import KeptWeight
from lpot_lightning.quantization.kernels.loaded import packed_on_load
from lpot_lightning.quantization.rungs import WeightOnlyLayer


@pytest.fixture(autouse=True)
def _deprecated() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit")
        yield


def values(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def weight(*shape: int, group_size: int | None = None) -> KeptWeight:
    return KeptWeight(Int8Weight.of(values(*shape), None, group_size))


LAYERS = {
    "rows": (WeightOnlyLayer(weight(64, 96)), (4, 96)),
    "groups": (WeightOnlyLayer(weight(64, 100, group_size=32)), (4, 100)),
    "one group": (WeightOnlyLayer(weight(64, 20, group_size=32)), (4, 20)),
    "convolution": (
        WeightOnlyLayer(weight(64, 32, 3, group_size=32), "conv1d", (1, 0, 1, 1), "same"),
        (2, 32, 9),
    ),
}


def stored(trace: torch.jit.ScriptModule) -> bytes:
    file = io.BytesIO()
    torch.jit.save(trace, file)
    return file.getvalue()


@pytest.mark.parametrize("name", LAYERS)
def test_a_file_keeps_integers_and_makes_floats_of_them_once(name):
    layer, shape = LAYERS[name]
    trace = torch.jit.trace(layer.eval(), values(*shape), check_trace=False)
    content = stored(packed_on_load(trace))
    loaded = torch.jit.load(io.BytesIO(content))
    assert torch.equal(loaded(values(*shape)), layer(values(*shape)))
    assert "mul_" not in loaded.code
    floats = stored(torch.jit.freeze(torch.jit.trace(Floats(layer).eval(), values(*shape))))
    assert len(floats) - len(content) > layer.kernel.weight.numel()


class Floats(nn.Module):
    """The same layer of floats."""

    def __init__(self, layer: WeightOnlyLayer) -> None:
        super().__init__()
        self.layer, self.weight = layer, nn.Parameter(layer.kernel.floats * 1.0)

    def forward(self, input: Tensor) -> Tensor:
        return self.layer.computed(input, self.weight, None)


def test_a_trace_by_itself_gives_the_same_bits():
    layer, shape = LAYERS["groups"]
    trace = torch.jit.trace(layer.eval(), values(*shape))
    assert torch.equal(trace(values(*shape)), layer(values(*shape)))


class Stretched(nn.Module):
    """Multiplies in place by itself, and goes on writing."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("integers", torch.ones(3, 4, dtype=torch.int8))
        self.register_buffer("factors", torch.full((3, 4), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.integers.float().mul_(self.factors).add_(x.mean()))


def test_what_others_multiply_in_place_stays_theirs():
    x = values(2, 4)
    made = packed_on_load(torch.jit.trace(Stretched().eval(), x))
    for _ in range(2):
        assert torch.equal(made(x), Stretched()(x))


def kept(group_size=None):
    weight = torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    return KeptWeight(Int8Weight.of(weight, None, group_size)), weight


def test_the_floats_are_made_once():
    made, weight = kept()
    assert made.floats is made.floats
    torch.testing.assert_close(made.floats, weight, rtol=0, atol=float(weight.abs().max()) / 127)


def test_they_follow_the_integers():
    made, _ = kept()
    before = made.floats.clone()
    made.weight.zero_()
    assert not made.floats.any()
    assert before.any()


def test_a_copy_makes_its_own():
    made, _ = kept()
    made.floats  # noqa: B018
    copied = copy.deepcopy(made)
    copied.weight.zero_()
    assert made.floats.any()
    assert not copied.floats.any()


def test_groups_have_scales_of_their_own_and_the_last_one_may_be_short():
    made, weight = kept(group_size=4)
    assert made.scales.shape == (4, 3)
    steps = made.rounded.steps
    assert steps.shape == weight.shape
    assert ((made.floats - weight).abs() <= steps / 2 + 1e-7).all()
