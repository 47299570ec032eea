"""Steps of a program by ops of torch alone: the bits of the model with its graphs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from deploy_scenes import captured, images, int8_of, small_int8
from int8_scenes import Batch, seeded
from rung_scenes import ladder, words
from torch import Tensor, nn

from lpot_lightning.deploy.native.steps import NativeLayer, native_program
from lpot_lightning.quantization.kernels.arithmetic import Int8Weight
from lpot_lightning.quantization.kernels.layers import Int8Layer
from lpot_lightning.quantization.kernels.rows import Int8Rows, Rows


class Gated(nn.Module):
    """Squeeze and excitation, groups, an upsampled branch that is joined."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.deep = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.less, self.more, self.last = (
            nn.Conv2d(8, 4, 1),
            nn.Conv2d(4, 8, 1),
            nn.Conv2d(16, 4, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.hardswish(self.deep(F.hardswish(self.wide(x))))
        y = y * F.hardsigmoid(self.more(F.relu(self.less(F.adaptive_avg_pool2d(y, 1)))))
        return self.last(torch.cat([y, F.interpolate(F.max_pool2d(y, 2), scale_factor=2)], 1))


class Text(nn.Module):
    """A table, GELU, and a residual sum of floats."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(20, 16), nn.LayerNorm(16)
        self.wide, self.narrow = nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        return x + self.narrow(F.gelu(self.wide(self.norm(x))))


class Sound(nn.Module):
    """Convolutions of one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(3, 8, 5, 2), nn.Conv1d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        return F.relu(self.b(x) + x)


def ids(count: int, seed: int = 0) -> Tensor:
    return torch.randint(20, (count, 6), generator=torch.Generator().manual_seed(seed))


def sounds(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 20, generator=torch.Generator().manual_seed(seed))


NETS = {"small": (None, images), "gated": (Gated, images), "text": (Text, ids)}
NETS |= {"sound": (Sound, sounds), "rungs": (None, words)}


@pytest.fixture(scope="module")
def models():
    known = {"small": small_int8(), "rungs": ladder()}
    for name, (kind, batch) in NETS.items():
        if kind is not None:
            known[name] = int8_of(seeded(kind), Batch(batch(4, 1)), Batch(batch(4, 2)))
    return known


@pytest.mark.parametrize("writes", [True, False])
@pytest.mark.parametrize("name", NETS)
def test_the_bits_are_those_of_the_graphs(models, name, writes):
    model, (_, batch) = models[name], NETS[name]
    program = native_program(captured(model, batch(3)), writes=writes)
    assert [one for one in program.modules() if isinstance(one, NativeLayer)]
    with torch.no_grad():
        for count in (1, 3, 5):
            assert torch.equal(program(batch(count)), model(batch(count)))


def test_a_sample_alone_goes_through():
    model = int8_of(seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())), Batch(images(4)))
    program = native_program(captured(model, images(4)[0], dynamic=False))
    with torch.no_grad():
        assert torch.equal(program(images(4)[1]), model(images(4)[1]))


def test_what_a_kernel_gets_wrong_is_left_to_arithmetic(monkeypatch, caplog):
    here = "lpot_lightning.quantization.kernels.proof.wrong_for"
    monkeypatch.setattr(here, lambda kernel, _: "wrong" if kernel.op == "block" else None)
    program = native_program(captured(small_int8()))
    kernels = [one for one in program.modules() if isinstance(one, Int8Layer)]
    assert [one.op for one in kernels if one.exact] == ["block"]
    assert "takes the place of a step" in caplog.text


@pytest.mark.parametrize("high", [127, 255])
@pytest.mark.parametrize("shape", [(16,), (1, 16), (2, 30, 16)])
def test_rows_go_by_the_kernel_that_suits_their_bits(high, shape):
    draw = torch.Generator().manual_seed(0)
    layer = Int8Rows(Int8Weight.of(torch.randn(8, 16, generator=draw)), high)
    found = NativeLayer(layer, shape)
    values = Rows.of(torch.randn(shape, generator=draw), high).values
    assert torch.equal(found(values), layer(values))
    assert found.weight.dim() == (4 if layer.by_convolution else 2)
