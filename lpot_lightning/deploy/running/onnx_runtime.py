"""ONNX files in ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from lpot_lightning.deploy.running.runtime import Intake, Port, cannot_open, package

_EXTRA = "onnx"
_SILENT = 4
"""Log level of what ends the process; errors are raised besides."""
_DTYPES = {
    "tensor(float)": torch.float32,
    "tensor(double)": torch.float64,
    "tensor(float16)": torch.float16,
    "tensor(bfloat16)": torch.bfloat16,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
    "tensor(int16)": torch.int16,
    "tensor(int8)": torch.int8,
    "tensor(uint8)": torch.uint8,
    "tensor(bool)": torch.bool,
}
_LAYERS = (
    "QLinearConv",
    "QLinearMatMul",
    "QGemm",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
    "ConvInteger",
    "MatMulInteger",
)
_OTHERS = ("QLinear", "QAttention", "QEmbed", "DynamicQuantizeLSTM")
"""How the names of further ops in int8 begin."""


class OnnxRuntime:
    """A file in ONNX Runtime, on the CPU: each op on ``threads`` cores, one op at a time.

    Threads do not spin while they wait, which would take the cores from what is timed in turn.

    Args:
        path: of the file.
        threads: ``None`` for as many as torch has.

    Raises:
        ArtifactError: if it is no such file.
        ExportError: if ONNX Runtime is not installed.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.name, self._path = version(), path
        self._session = _session(path, _options(threads))
        given = self._session.get_inputs()
        self._intake = Intake(path, [_port(one) for one in given])
        self.inputs = self._intake.names
        types = {one.type for one in (*given, *self._session.get_outputs())}
        self._by_numpy = "tensor(bfloat16)" not in types  # which has no such type
        self._kinds: Counter[str] | None = None

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Compute; see ``Runtime``."""
        taken = self._intake(tensors)
        try:
            return self._computed(taken)
        except Exception as error:  # it has a type of its own for each fault
            raise self._intake.failed(self.name, tensors, error) from error

    def _computed(self, taken: Sequence[Tensor]) -> tuple[Tensor, ...]:
        named = zip(self.inputs, taken, strict=True)
        if self._by_numpy:
            found = self._session.run(None, {name: one.numpy() for name, one in named})
            return tuple(map(torch.from_numpy, found))
        make = package("onnxruntime", _EXTRA).OrtValue.from_dlpack
        found = self._session.run_with_ort_values(None, {name: make(one) for name, one in named})
        return tuple(map(from_dlpack, found))

    def int8_kinds(self) -> Counter[str]:
        """Count the ops in int8 of the graph that ONNX Runtime makes of the file."""
        if self._kinds is None:
            kinds = _optimized(self._path)
            own = Counter({kind: count for kind, count in kinds.items() if _is_int8(kind)})
            self._kinds = own
        return self._kinds

    def int8_ops(self) -> int:
        """Count convolutions and matrix products in int8."""
        return sum(self.int8_kinds()[kind] for kind in _LAYERS)


def version() -> str:
    """Return its name for people.

    Raises:
        ExportError: if it is not installed.
    """
    return f"ONNX Runtime {package('onnxruntime', _EXTRA).__version__}"


def _options(threads: int | None) -> Any:
    options = package("onnxruntime", _EXTRA).SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _session(path: Path, options: Any) -> Any:
    make = package("onnxruntime", _EXTRA).InferenceSession
    try:
        return make(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it has a type of its own for each fault
        raise cannot_open(path, version(), error) from error


def _port(given: Any) -> Port:
    sizes = (one if isinstance(one, int) else str(one or "?") for one in given.shape)
    return Port(given.name, _DTYPES.get(given.type), tuple(sizes))


def _optimized(path: Path) -> Counter[str]:
    """Return how many ops of each kind there are after all that does not depend on the machine.

    Weights are left out of what is read, which may be larger than a message can be.
    """
    load = package("onnx", _EXTRA).load
    options = _options(1)
    levels = package("onnxruntime", _EXTRA).GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_EXTENDED
    for key, value in {"file_name": "weights", "min_size_in_bytes": "1024"}.items():
        options.add_session_config_entry(
            f"session.optimized_model_external_initializers_{key}", value
        )
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = f"{folder}/optimized.onnx"
        _session(path, options)
        graph = load(options.optimized_model_filepath, load_external_data=False).graph
    return Counter(node.op_type for node in graph.node)


def _is_int8(kind: str) -> bool:
    return kind in _LAYERS or kind.startswith(_OTHERS)
