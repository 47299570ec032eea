"""Model compression inside PyTorch Lightning, tuned to an accuracy goal."""

from __future__ import annotations

import sys
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lpot_lightning.artifacts.restore import load
    from lpot_lightning.callbacks.benchmark import BenchmarkCallback
    from lpot_lightning.callbacks.exporting import ExportCallback
    from lpot_lightning.callbacks.from_conf import callbacks_from_conf
    from lpot_lightning.callbacks.pruning import PruningCallback
    from lpot_lightning.callbacks.qat import QATCallback
    from lpot_lightning.callbacks.quantization import QuantizationCallback
    from lpot_lightning.commands.cli import LPOTCLI
    from lpot_lightning.commands.export import export
    from lpot_lightning.commands.quantize import quantize
    from lpot_lightning.data.metric import Metric
    from lpot_lightning.deploy.exported import Exported
    from lpot_lightning.errors import ArtifactError, ConfError, ExportError, LpotError
    from lpot_lightning.lpot.benchmark import Benchmark
    from lpot_lightning.lpot.pruning import Pruning
    from lpot_lightning.lpot.quantization import Quantization
    from lpot_lightning.runs.pruning_result import PruningResult
    from lpot_lightning.runs.tuning_result import TuningResult
    from lpot_lightning.timing.result import BenchmarkResult
    from lpot_lightning.trainer.checkpoint import load_from_checkpoint

__all__ = [
    "ArtifactError",
    "Benchmark",
    "BenchmarkCallback",
    "BenchmarkResult",
    "ConfError",
    "ExportCallback",
    "ExportError",
    "Exported",
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
    "export",
    "load",
    "load_from_checkpoint",
    "quantize",
]
_HOMES = {
    "ArtifactError": "errors",
    "Benchmark": "lpot.benchmark",
    "BenchmarkCallback": "callbacks.benchmark",
    "BenchmarkResult": "timing.result",
    "ConfError": "errors",
    "ExportCallback": "callbacks.exporting",
    "ExportError": "errors",
    "Exported": "deploy.exported",
    "LPOTCLI": "commands.cli",
    "LpotError": "errors",
    "Metric": "data.metric",
    "Pruning": "lpot.pruning",
    "PruningCallback": "callbacks.pruning",
    "PruningResult": "runs.pruning_result",
    "QATCallback": "callbacks.qat",
    "Quantization": "lpot.quantization",
    "QuantizationCallback": "callbacks.quantization",
    "TuningResult": "runs.tuning_result",
    "callbacks_from_conf": "callbacks.from_conf",
    "export": "commands.export",
    "load": "artifacts.restore",
    "load_from_checkpoint": "trainer.checkpoint",
    "quantize": "commands.quantize",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for from the file that defines it, and only then.

    So does a command that reads YAML not wait seconds for torch and Lightning, and a process that
    measures not hold them.
    """
    if name == "common":  # LPOT's, a module
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise _unknown(name, sys._getframe(1))
    found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def _unknown(name: str, asking: FrameType) -> Exception:
    """Return the error for a name that is not there, with the one that may be meant.

    Of ``from … import`` Python gives nothing on but an ``ImportError``.
    """
    from opcode import opname

    from lpot_lightning.errors import did_you_mean

    near = did_you_mean(name, _HOMES)
    said = f"module `{__name__}` has no attribute `{name}`{'.' * bool(near)}{near}"
    code = asking.f_code.co_code[asking.f_lasti]
    if opname[code] == "IMPORT_FROM":
        return ImportError(said.replace("no attribute", "no"), name=__name__)
    return AttributeError(said)


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted({*globals(), *_HOMES, "common"})
