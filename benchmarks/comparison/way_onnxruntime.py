"""ONNX Runtime's `quantize_static`: pairs of QuantizeLinear and DequantizeLinear, u8 and s8.

The net is exported by torch's own exporter. Weights have a scale a channel, as ONNX Runtime advises
for CPUs; the rest is left at its defaults. It knows no goal.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import onnx
import onnxruntime
import torch
from making import ORT, Form, Made, Task, mib
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
    shape_inference,
)
from torch import Tensor
from way_ours import ONNXRUNTIME, opened

LAYERS = ("Conv", "Gemm", "MatMul", "GRU")
INPUT = "x"


class Batches(CalibrationDataReader):  # type: ignore[misc]
    """The images for calibration, ten at a time."""

    def __init__(self, images: Tensor) -> None:
        self._left = iter([{INPUT: one.numpy()} for one in images.split(10)])

    def get_next(self) -> Mapping[str, Any] | None:
        """Return a batch, or ``None`` behind the last one."""
        return next(self._left, None)


def make(task: Task) -> Made:
    """Export, quantize."""
    logging.getLogger().setLevel(logging.ERROR)  # advice for its quantizer
    began = monotonic()
    fp32 = exported(task)
    path = quantized(task, fp32)
    form = Form(
        runtime=ORT,
        call=opened(path, ONNXRUNTIME),
        seconds=monotonic() - began,
        lost=task.layers - layers_in_int8(onnx.load(path).graph),
        mib=mib(path),
    )
    versions = {"ONNX Runtime": onnxruntime.__version__, "torch": torch.__version__}
    return Made(forms=(form,), floats={ORT: opened(fp32, ONNXRUNTIME)}, versions=versions)


def exported(task: Task) -> Path:
    """Write the net in fp32, for batches of any size."""
    path, batch = task.folder / "fp32.onnx", torch.export.Dim("batch", min=1, max=1024)
    torch.onnx.export(
        task.net,
        (task.calibration[:8],),
        path,
        input_names=[INPUT],
        dynamic_shapes=({0: batch},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    return path


def quantized(task: Task, fp32: Path) -> Path:
    """Write the net in int8."""
    ready, path = task.folder / "ready.onnx", task.folder / "int8.onnx"
    shape_inference.quant_pre_process(fp32, ready)
    quantize_static(
        ready,
        path,
        Batches(task.calibration),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return path


def layers_in_int8(graph: Any) -> int:
    """Count layers whose input and weight both come out of a DequantizeLinear."""
    made = {name: node for node in graph.node for name in node.output}
    weights = {one.name for one in graph.initializer}

    def is_dequantized(name: str) -> bool:
        return name in made and made[name].op_type == "DequantizeLinear"

    def is_constant(name: str) -> bool:
        inputs = made[name].input if name in made else ()
        return name in weights or bool(inputs) and all(map(is_constant, inputs))

    return sum(
        all(map(is_dequantized, node.input[:2])) and is_constant(node.input[1])
        for node in graph.node
        if node.op_type in LAYERS
    )
