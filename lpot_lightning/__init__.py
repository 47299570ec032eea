"""Model compression inside PyTorch Lightning, tuned to an accuracy goal."""

from lpot_lightning.api.pruning import Pruning
from lpot_lightning.api.pruning_result import PruningResult
from lpot_lightning.api.quantization import Quantization
from lpot_lightning.api.restore import load
from lpot_lightning.api.result import TuningResult
from lpot_lightning.callbacks.checkpoint import load_from_checkpoint
from lpot_lightning.callbacks.from_conf import callbacks_from_conf
from lpot_lightning.callbacks.offline import quantize
from lpot_lightning.callbacks.pruning import PruningCallback
from lpot_lightning.callbacks.qat import QATCallback
from lpot_lightning.callbacks.quantization import QuantizationCallback
from lpot_lightning.data.metric import Metric
from lpot_lightning.errors import ArtifactError, ConfError, LpotError

__all__ = [
    "ArtifactError",
    "ConfError",
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
