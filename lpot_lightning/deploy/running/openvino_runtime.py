"""OpenVINO's own files, and ONNX files, in OpenVINO."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lpot_lightning.deploy.running.runtime import Intake, Port, cannot_open, package
from lpot_lightning.machine.reading import open_regular

_EXTRA = "openvino"
_DTYPES = {
    "f32": torch.float32,
    "f64": torch.float64,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "i64": torch.int64,
    "i32": torch.int32,
    "i16": torch.int16,
    "i8": torch.int8,
    "u8": torch.uint8,
    "boolean": torch.bool,
}
_LAYERS = ("Convolution", "GroupConvolution", "Deconvolution", "FullyConnected", "MatMul")
_OTHERS = ("Pooling", "Eltwise", "Reduce", "Concatenation", "Subgraph", "Interpolate")
_INT8, _FLOATS = ("i8", "u8"), ("f32", "f16", "bf16")
_TOLD = "layerType", "runtimePrecision", "primitiveType"


class OpenVinoRuntime:
    """A file in OpenVINO, on the CPU: one request at a time, on ``threads`` cores.

    Floats are computed in 32 bits, also where the processor has bfloat16, as torch does; what a
    layer reads whose weight alone has 8 bits stays floats.

    Args:
        path: of an ``.xml``, with its ``.bin`` beside it, or of an ``.onnx``.
        threads: ``None`` for as many as torch has.

    Raises:
        ArtifactError: if it is no such file.
        ExportError: if OpenVINO is not installed.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.name, self._openvino = version(), package("openvino", _EXTRA)
        try:
            self._compiled = _compiled(self._openvino, path, threads)
        except Exception as error:  # `RuntimeError` of all kinds
            raise cannot_open(path, self.name, error) from error
        self._request = self._compiled.create_infer_request()
        self._held: Sequence[Tensor] = ()
        ports = [_port(one, number) for number, one in enumerate(self._compiled.inputs)]
        self._intake = Intake(path, ports)
        self.inputs = self._intake.names
        self._outputs = [_dtype(one) for one in self._compiled.outputs]

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Compute; see ``Runtime``."""
        taken = self._intake(tensors)
        try:
            return self._computed(taken)
        except Exception as error:  # `RuntimeError` of all kinds
            raise self._intake.failed(self.name, tensors, error) from error

    def _computed(self, taken: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute on the memory of the tensors themselves: a mapping takes 40 microseconds more."""
        self._held = taken  # the request points at their memory until it gets others
        for number, one in enumerate(taken):
            self._request.set_input_tensor(number, self._wrapped(one))
        self._request.infer()
        return tuple(self._copied(*numbered) for numbered in enumerate(self._outputs))

    def _wrapped(self, one: Tensor) -> Any:
        if one.dtype != torch.bfloat16:
            return self._openvino.Tensor(one.numpy(), shared_memory=True)
        bits = one.view(torch.int16).numpy()  # numpy has no such type
        return self._openvino.Tensor(bits, list(one.shape), self._openvino.Type.bf16)

    def _copied(self, number: int, dtype: torch.dtype | None) -> Tensor:
        """Return an output, whose memory the next call writes to."""
        data = self._request.get_output_tensor(number).data
        if dtype != torch.bfloat16:
            return torch.from_numpy(data.copy())
        return torch.from_numpy(data.view("int16").copy()).view(torch.bfloat16)

    def int8_kinds(self) -> Counter[str]:
        """Count the ops in int8 of the graph that OpenVINO executes."""
        found: Counter[str] = Counter()
        for node in self._compiled.get_runtime_model().get_ops():
            told = node.get_rt_info()
            kind, precision, way = (told[key].astype(str) for key in _TOLD)
            if precision in _INT8 and (kind in _OTHERS or (kind in _LAYERS and _is_int8(way))):
                found[kind] += 1
        return found

    def int8_ops(self) -> int:
        """Count convolutions and matrix products in int8."""
        kinds = self.int8_kinds()
        return sum(kinds[kind] for kind in _LAYERS)


def _is_int8(way: str) -> bool:
    """Whether a layer computes in int8; the precision of one of floats may be its weight's."""
    return not way.endswith(_FLOATS)


def version() -> str:
    """Return its name for people.

    Raises:
        ExportError: if it is not installed.
    """
    return f"OpenVINO {package('openvino', _EXTRA).__version__.partition('-')[0]}"


def _compiled(openvino: Any, path: Path, threads: int | None) -> Any:
    how = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    }
    core = openvino.Core()
    return core.compile_model(_read(openvino, core, path), "CPU", how)


def _read(openvino: Any, core: Any, path: Path) -> Any:
    """Read a file as what it is; else all readers say on stderr what they think of it."""
    if path.suffix == ".onnx":
        front = openvino.frontend.FrontEndManager().load_by_framework("onnx")
        return front.convert(front.load(str(path)))
    with path.open("rb") as file:
        if not file.read(64).lstrip().startswith(b"<"):
            raise ValueError("it is no XML")
    weights = path.with_suffix(".bin")
    if os.path.lexists(weights):  # a FIFO would be waited for, and a link to itself end the process
        os.close(open_regular(weights))
    return core.read_model(str(path))


def _port(given: Any, number: int) -> Port:
    sizes = tuple(
        one.get_length() if one.is_static else str(one) for one in given.get_partial_shape()
    )
    name = given.get_any_name() if given.get_names() else f"input_{number}"
    return Port(name, _dtype(given), sizes)


def _dtype(given: Any) -> torch.dtype | None:
    return _DTYPES.get(given.get_element_type().get_type_name())
