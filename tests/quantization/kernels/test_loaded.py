"""Files of TorchScript that pack their weights once: the same bits, wherever they are loaded."""

from __future__ import annotations

import copy
import io
import threading
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from lpot_lightning.errors import QuantizationError
from lpot_lightning.quantization.kernels.arithmetic import ConvGeometry, Int8Weight
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.layers import Int8Conv, Int8Linear
from lpot_lightning.quantization.kernels.loaded import packed_on_load
from lpot_lightning.quantization.kernels.post_op import PostOp

X = Grid.over(-2, 3, high=127)
PACKS = "onednn::qlinear_prepack", "onednn::qconv_prepack"


@pytest.fixture(autouse=True)
def _deprecated() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit")
        yield


def integers(*shape: int, seed: int = 0) -> Tensor:
    return X.quantize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))


def rounded(*shape: int) -> Int8Weight:
    return Int8Weight.of(torch.randn(*shape), torch.randn(shape[0]))


def conv(dims: int, groups: int = 1) -> Int8Conv:
    geometry = ConvGeometry((2,) * dims, (1,) * dims, (1,) * dims, groups)
    return Int8Conv(rounded(6, 4 // groups, *(3,) * dims), X, geometry, Grid.over(0, 9))


def linear() -> Int8Linear:
    return Int8Linear(rounded(5, 8), X, None, PostOp("relu"))


LAYERS = {
    "linear": (linear, (8,)),
    "1d": (lambda: conv(1), (4, 9)),
    "2d": (lambda: conv(2), (4, 7, 9)),
    "grouped": (lambda: conv(2, 2), (4, 7, 9)),
    "3d": (lambda: conv(3), (4, 5, 6, 7)),
}


def traced(model: nn.Module, *batch: Tensor) -> torch.jit.ScriptModule:
    with torch.no_grad():
        return torch.jit.trace(model.eval(), batch)


def loaded(trace: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    file = io.BytesIO()
    torch.jit.save(trace, file)
    file.seek(0)
    return torch.jit.load(file)


def packs(model: torch.jit.ScriptModule) -> int:
    """Return how often a call packs."""
    return sum(len(model.inlined_graph.findAllNodes(kind)) for kind in PACKS)


@pytest.mark.parametrize("name", LAYERS)
def test_no_call_packs_and_the_bits_are_the_same(name):
    make, shape = LAYERS[name]
    layer = make()
    trace = traced(layer, integers(2, *shape))
    file = loaded(packed_on_load(trace))
    assert (packs(trace), packs(file)) == (1, 0)
    for count in (1, 2, 5):
        x = integers(count, *shape, seed=count)
        wanted = layer(x)
        for one in (packed_on_load(trace), file, loaded(file), copy.deepcopy(file)):
            assert torch.equal(one(x), wanted)


def test_a_trace_is_left_as_it_is_and_may_come_from_a_file():
    layer, x = conv(2), integers(3, 4, 7, 9)
    trace = loaded(traced(layer, x))
    assert packs(loaded(packed_on_load(trace))) == 0
    assert packs(trace) == 1
    assert torch.equal(trace(x), layer(x))


class Mixed(nn.Module):
    """A layer that is called twice, and floats whose norm could be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.int8, self.floats, self.norm = conv(2), nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.norm(self.floats(self.int8(x).float()))
        return y, self.int8(X.quantize(y))


def test_what_is_in_floats_has_the_same_bits_too():
    model, x = Mixed().eval(), integers(2, 4, 9, 9)
    file = loaded(packed_on_load(traced(model, x)))
    with torch.no_grad():
        assert all(map(torch.equal, file(x), model(x)))


def test_threads_may_share_what_was_loaded():
    layer, x = conv(2), integers(2, 4, 7, 9)
    file, found = loaded(packed_on_load(traced(layer, x))), []
    threads = [threading.Thread(target=lambda: found.append(file(x))) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert [torch.equal(one, layer(x)) for one in found] == [True] * 4


def test_what_is_no_int8_model_is_frozen():
    model, x = nn.Sequential(nn.Linear(8, 3), nn.ReLU()), torch.randn(2, 8)
    file = loaded(packed_on_load(traced(model, x)))
    assert torch.equal(file(x), model(x))


def test_what_cannot_be_packed_is_told():
    frozen = packed_on_load(traced(linear(), integers(2, 8)))
    with pytest.raises(QuantizationError, match="^this trace is frozen already: give the trace"):
        packed_on_load(frozen)
    with pytest.raises(RuntimeError, match="expects a ScriptModule"):
        packed_on_load(linear())
