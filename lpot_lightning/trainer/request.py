"""What one quantization is asked for in a Trainer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lpot_lightning.conf.schema import Conf
from lpot_lightning.pruning.channels.plan import ChannelPlan
from lpot_lightning.runs.workspace import Workspace
from lpot_lightning.trainer.calibration import Source
from lpot_lightning.trainer.weights import Weights


@dataclass(frozen=True, kw_only=True)
class Request:
    """What one quantization is asked for in a Trainer.

    Args:
        conf: checked.
        monitor: the metric to judge by, where it is known.
        modules: names or globs of what is to be quantized; empty means everything.
        weights: those of the best checkpoint, or those in memory.
        workspace: where the files go.
        calib: ``"train"`` or ``"val"``.
        train: training data, where it is not that of the trainer.
        dense: the accuracy before the model was pruned, where it was.
        plan: by which channels are cut out of it first.
    """

    conf: Conf
    monitor: str | None
    modules: tuple[str, ...]
    weights: Weights
    workspace: Workspace
    calib: Source = "train"
    train: Any = None
    dense: float | None = None
    plan: ChannelPlan | None = None
