"""Model compression inside PyTorch Lightning, tuned to an accuracy goal."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lpot_lightning.api.benchmark import Benchmark
    from lpot_lightning.api.benchmark_result import BenchmarkResult
    from lpot_lightning.api.pruning import Pruning
    from lpot_lightning.api.pruning_result import PruningResult
    from lpot_lightning.api.quantization import Quantization
    from lpot_lightning.api.restore import load
    from lpot_lightning.api.result import TuningResult
    from lpot_lightning.callbacks.benchmark import BenchmarkCallback
    from lpot_lightning.callbacks.checkpoint import load_from_checkpoint
    from lpot_lightning.callbacks.from_conf import callbacks_from_conf
    from lpot_lightning.callbacks.offline import quantize
    from lpot_lightning.callbacks.pruning import PruningCallback
    from lpot_lightning.callbacks.qat import QATCallback
    from lpot_lightning.callbacks.quantization import QuantizationCallback
    from lpot_lightning.cli import LPOTCLI
    from lpot_lightning.data.metric import Metric
    from lpot_lightning.errors import ArtifactError, ConfError, LpotError

__all__ = [
    "ArtifactError",
    "Benchmark",
    "BenchmarkCallback",
    "BenchmarkResult",
    "ConfError",
    "LPOTCLI",
    "LpotError",
    "Metric",
    "Pruning",
    "PruningCallback",
    "PruningResult",
    "QATCallback",
    "Quantization",
    "QuantizationCallback",
    "TuningResult",
    "callbacks_from_conf",
    "load",
    "load_from_checkpoint",
    "quantize",
]
_HOMES = {
    "ArtifactError": "errors",
    "Benchmark": "api.benchmark",
    "BenchmarkCallback": "callbacks.benchmark",
    "BenchmarkResult": "api.benchmark_result",
    "ConfError": "errors",
    "LPOTCLI": "cli",
    "LpotError": "errors",
    "Metric": "data.metric",
    "Pruning": "api.pruning",
    "PruningCallback": "callbacks.pruning",
    "PruningResult": "api.pruning_result",
    "QATCallback": "callbacks.qat",
    "Quantization": "api.quantization",
    "QuantizationCallback": "callbacks.quantization",
    "TuningResult": "api.result",
    "callbacks_from_conf": "callbacks.from_conf",
    "load": "api.restore",
    "load_from_checkpoint": "callbacks.checkpoint",
    "quantize": "callbacks.offline",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for from the file that defines it, and only then.

    So does a command that reads YAML not wait seconds for torch and Lightning, and a process that
    measures not hold them.
    """
    if name not in _HOMES:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted({*globals(), *_HOMES})
