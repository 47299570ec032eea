"""Small files of each form, as an export leaves them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from onnx import TensorProto, checker, helper, numpy_helper, save
from torch import Tensor, nn

SCALE, ZERO, STEP = 1 / 16, 64, 1 / 8
"""Of the input and of the output; numbers up to 3.9 take 0 to 127, which AVX2 does not saturate."""
WEIGHT_SCALES = np.linspace(0.001, 0.003, 4, dtype=np.float32)


def images(count: int = 3) -> Tensor:
    made = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return made.clamp(-3.5, 3.5)


def weights() -> np.ndarray:
    return np.random.default_rng(0).integers(-127, 128, (4, 1, 3, 3)).astype(np.int8)


def expected(x: Tensor) -> Tensor:
    """Return what the convolution of ``conv_file`` gives but for the rounding of its output."""
    rounded = (x / SCALE).round() * SCALE
    weight = torch.from_numpy(weights() * WEIGHT_SCALES[:, None, None, None])
    return F.conv2d(rounded, weight).mean((2, 3))


def conv_file(path: Path) -> Path:
    """Write a convolution in pairs of Quantize and Dequantize, and a mean: images to 4 scores."""
    held = {
        "scale": np.float32(SCALE),
        "zero": np.uint8(ZERO),
        "weight": weights(),
        "weight_scale": WEIGHT_SCALES,
        "weight_zero": np.zeros(4, np.int8),
        "step": np.float32(STEP),
        "step_zero": np.uint8(128),
    }
    quantized = [
        helper.make_node("QuantizeLinear", ["images", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
        helper.make_node(
            "DequantizeLinear", ["weight", "weight_scale", "weight_zero"], ["w"], axis=0
        ),
        helper.make_node("Conv", ["dq", "w"], ["conv"]),
        helper.make_node("QuantizeLinear", ["conv", "step", "step_zero"], ["out_q"]),
        helper.make_node("DequantizeLinear", ["out_q", "step", "step_zero"], ["out"]),
    ]
    mean = helper.make_node("GlobalAveragePool", ["out"], ["mean"])
    nodes = [*quantized, mean, helper.make_node("Flatten", ["mean"], ["scores"])]
    taken = [_info("images", TensorProto.FLOAT, ["batch", 1, 8, 8])]
    return _write(path, nodes, taken, [_info("scores", TensorProto.FLOAT, ["batch", 4])], held)


def masked_file(path: Path, kind: int = TensorProto.FLOAT) -> Path:
    """Write what counts ``tokens`` where ``mask`` is, as ``kind``: two inputs, two outputs."""
    nodes = [
        helper.make_node("Cast", ["tokens"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["mask"], ["ones"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["numbers", "ones"], ["kept"]),
        helper.make_node("Cast", ["kept"], ["masked"], to=kind),
        helper.make_node("Not", ["mask"], ["hidden"]),
    ]
    sizes = ["batch", "length"]
    taken = [_info("tokens", TensorProto.INT64, sizes), _info("mask", TensorProto.BOOL, sizes)]
    given = [_info("masked", kind, sizes), _info("hidden", TensorProto.BOOL, sizes)]
    return _write(path, nodes, taken, given, {})


def _info(name: str, kind: int, sizes: list[int | str]) -> object:
    return helper.make_tensor_value_info(name, kind, sizes)


def _write(path: Path, nodes: list, taken: list, given: list, held: dict) -> Path:
    numbers = [numpy_helper.from_array(np.asarray(one), name) for name, one in held.items()]
    graph = helper.make_graph(nodes, "scene", taken, given, numbers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    checker.check_model(model)
    save(model, path)
    return path


def xml_file(path: Path) -> Path:
    """Write ``conv_file`` in OpenVINO's own form."""
    import openvino

    onnx = conv_file(path.with_suffix(".onnx"))
    openvino.save_model(openvino.Core().read_model(onnx), path, compress_to_fp16=False)
    return path


class Scaled(nn.Module):
    """A layer, and an argument by name."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor, scale: Tensor) -> dict[str, Tensor]:
        return {"scores": self.layer(x) * scale, "sum": x.sum()}


def exported(path: Path) -> Path:
    """Write ``Scaled`` as a program."""
    dims = {"x": {0: torch.export.Dim("batch")}, "scale": None}
    given = (torch.ones(2, 4),), {"scale": torch.ones(3)}
    program = torch.export.export(Scaled().eval(), *given, dynamic_shapes=dims)
    torch.export.save(program, path)
    return path


def scripted(path: Path, model: nn.Module, x: Tensor) -> Path:
    """Write a trace of ``model``."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit")
        torch.jit.save(torch.jit.trace(model.eval(), x), path)
    return path
