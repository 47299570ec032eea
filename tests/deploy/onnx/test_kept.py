"""Layers whose weight is of integers in ONNX, and of floats when it computes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from deploy_scenes import captured
from int8_scenes import Batch, seeded
from onnx import numpy_helper
from rung_scenes import few_rungs_onnx, on_rungs
from torch import Tensor, nn

from lpot_lightning.deploy.onnx.kept import PlacedKept
from lpot_lightning.deploy.onnx.onnx_file import OP, onnx_model
from lpot_lightning.deploy.onnx.placing import placed
from lpot_lightning.deploy.running.runtimes import open_file
from lpot_lightning.quantization.kernels.bounds import WHOLE
from lpot_lightning.quantization.rungs import WeightOnlyLayer, on_rung
from lpot_lightning.recipe import OpConfig, Rung, TensorConfig

ALONE = TensorConfig(dtype="fp32")
NEAR = {torch.float32: {"rtol": 1e-5, "atol": 1e-6}, torch.bfloat16: {"rtol": 0.02, "atol": 0.005}}


def layer_of(fp32: nn.Module, size: int | None) -> WeightOnlyLayer:
    how = {"granularity": "per_channel"} if size is None else {"granularity": "per_group"}
    weight = TensorConfig(dtype="int8", group_size=size, **how)
    made = on_rung(fp32, OpConfig(ALONE, weight), bounds=WHOLE)
    assert isinstance(made, WeightOnlyLayer)
    return made


def values(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [None, 32, 128])
@pytest.mark.parametrize(
    ("fp32", "shape"),
    [
        (nn.Linear(80, 6), (2, 3, 80)),
        (nn.Linear(80, 6, bias=False), (5, 80)),
        (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 5, 5)),
        (nn.Conv1d(8, 6, 3, padding="same", groups=2), (2, 8, 7)),
    ],
)
def test_it_computes_what_the_layer_does(fp32, shape, size):
    layer = layer_of(fp32, size)
    made = PlacedKept(layer)
    assert made.values.numel() < 2 * layer.kernel.weight.numel()
    for dtype, near in NEAR.items():
        x = values(*shape).to(dtype)
        found = made(x)
        assert found.dtype is dtype
        torch.testing.assert_close(found, layer(x), **near)


def test_the_file_holds_integers_and_no_floats_of_them():
    model = onnx.load_from_string(few_rungs_onnx("onnxruntime")[1])
    held = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    assert [one.size for one in held.values() if one.dtype == np.int8 and one.ndim == 3] == [
        40 * 64, 64 * 32, 
    ]  # fmt: skip
    assert max(one.size for one in held.values() if one.dtype == np.float32) <= 64
    made = [one for one in model.graph.node if one.op_type == "Cast" and "values" in one.input[0]]
    assert [one.value for node in made for one in node.metadata_props if one.key == OP] == [
        "wide", "narrow",
    ]  # fmt: skip


class Spoken(nn.Module):
    """A recurrent layer, of which the last step counts."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(33, 64, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0][:, -1]


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_a_recurrent_layer(tmp_path, target):
    x = values(4, 5, 33)
    model = on_rungs(seeded(Spoken), {"layer": (Rung.WEIGHT_ONLY, 32)}, Batch(x))
    whole = captured(model, x)
    made = placed(whole, target, [])
    content = onnx_model(made.module, whole.inputs, whole.given.names, made.ops)
    (tmp_path / "gru.onnx").write_bytes(content)
    held = onnx.load_from_string(content).graph.initializer
    assert max(np.prod(one.dims) for one in held if one.data_type == 1) < 64 * 64
    opened = open_file(tmp_path / "gru.onnx", runtime=target)
    torch.testing.assert_close(opened(x)[0], model(x))
