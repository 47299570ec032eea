"""Shapes of oneDNN's packed weights."""

from __future__ import annotations

import torch
from deploy_scenes import answer, captured, images, small_int8
from rung_scenes import ladder, words
from torch import Tensor, nn
from torch._library.simple_registry import singleton

from lpot_lightning.deploy.native.pt2 import write_pt2
from lpot_lightning.deploy.running import fakes
from lpot_lightning.deploy.running.torch_runtime import TorchRuntime


class Int8(nn.Module):
    """An int8 layer that packs its weight when it is called."""

    def __init__(self) -> None:
        super().__init__()
        made = torch.Generator().manual_seed(0)
        self.register_buffer("weight", torch.randint(-127, 127, (8, 16), generator=made).char())
        self.register_buffer("scales", torch.full((8,), 0.01))
        self.register_buffer("zeros", torch.zeros(8, dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        packed = torch.ops.onednn.qlinear_prepack(self.weight, None)
        q = (x / 0.05 + 60).round().clamp(0, 127).byte()
        held = self.scales, self.zeros, None, 1.0, 0, torch.float32, "none", [0.0], ""
        return torch.ops.onednn.qlinear_pointwise(q, 0.05, 60, packed, *held)


def test_a_program_with_packed_weights_is_exported_and_loaded(tmp_path):
    fakes.register()
    x = torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
    torch.export.save(torch.export.export(Int8(), (x,)), tmp_path / "model.pt2")
    opened = TorchRuntime(tmp_path / "model.pt2", "pt2")
    assert torch.equal(opened(x)[0], Int8()(x))
    assert (opened.int8_ops(), opened.int8_kinds()) == (1, {"onednn.qlinear_pointwise": 1})


def test_once_is_enough():
    fakes.register()
    first = singleton.find("onednn::qconv_prepack").fake_impl.kernel
    fakes.register()
    assert singleton.find("onednn::qconv_prepack").fake_impl.kernel is first


def test_the_shapes_are_those_that_torch_gives():
    fakes.register()
    from torch._subclasses.fake_tensor import FakeTensorMode

    weight, scales = torch.ones(8, 4, 3, 3).char(), torch.ones(8)
    conv = lambda w: torch.ops.onednn.qconv_prepack(  # noqa: E731
        w, scales, 0.1, 0, [1, 1], [1, 1], [1, 1], 1, None
    )
    linear = lambda w: torch.ops.onednn.qlinear_prepack(w, None)  # noqa: E731
    for call, given in ((conv, weight), (linear, torch.ones(8, 16).char())):
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            faked = call(mode.from_tensor(given))
        assert faked.shape == call(given).shape


def test_a_loaded_program_packs_once_and_gives_the_same_bits(tmp_path):
    write_pt2(captured(small_int8()), tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2")
    module = fakes.packed_once(program.module())
    assert "_prepack.default" in program.module().code
    assert "_prepack.default" not in module.code
    assert torch.equal(module(images(3)), answer(small_int8(), images(3))[0])


def test_weights_that_are_kept_as_integers_become_floats_once(tmp_path):
    write_pt2(captured(ladder(), words(4)), tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2")
    before, module = program.module().code, fakes.packed_once(program.module())
    floats = {tuple(one.shape) for name, one in module.named_buffers() if name.endswith("_once")}
    assert floats >= {(80, 40), (40, 80), (12, 40, 3)}
    assert before.count("torch.float32") - module.code.count("torch.float32") >= 3
    assert torch.equal(module(words(3)), answer(ladder(), words(3))[0])


class Written(nn.Module):
    """Writes into integers of its own, and into what it makes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(2, dtype=torch.int8))
        self.register_buffer("fixed", torch.ones(2, dtype=torch.int8))

    def forward(self, x: Tensor) -> Tensor:
        self.count.add_(1)
        return x + self.count.float() * 2 + self.fixed.float().mul_(x).sum()


def test_what_is_written_into_is_not_held():
    program = torch.export.export(Written(), (torch.ones(2),))
    module = fakes.packed_once(program.module())
    assert [module(torch.ones(2)).tolist() for _ in range(2)] == [[5.0, 5.0], [7.0, 7.0]]
