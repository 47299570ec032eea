"""What one quantization is asked for in a Trainer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.plugins.precision import Precision

from lpot_lightning.conf.schema import Conf
from lpot_lightning.pruning.channels.plan import ChannelPlan
from lpot_lightning.trainer.calibration import Source


@dataclass(frozen=True)
class Task:
    """What one quantization is asked for in a Trainer.

    Args:
        conf: checked.
        monitor: the user's choice of metric, if any.
        modules: names or globs of what is to be quantized; empty means everything.
        calib: ``"train"`` or ``"val"``.
        weights: path of the checkpoint whose weights are quantized, ``""`` for the live ones.
        workspace: where the files go; ``None`` writes none.
        watchers: the user's callbacks; one of them may name the metric.
        precision: what models are judged in; always 32 bits.
        train: training data, where it is not that of the trainer.
        dense: the accuracy before the model was pruned, where it was.
        plan: by which channels are cut out of it first.
    """

    conf: Conf
    monitor: str | None
    modules: tuple[str, ...]
    weights: str
    workspace: Path | None
    watchers: Sequence[Callback]
    precision: Precision
    calib: Source = "train"
    train: Any = None
    dense: float | None = None
    plan: ChannelPlan | None = None

    def without_calibration(self, samples: int) -> Task:
        """Return what is asked where models are only judged: a few validation samples do."""
        few = dataclasses.replace(self.conf.quantization.calibration, sampling_size=samples)
        asked = dataclasses.replace(self.conf.quantization, calibration=few)
        conf = dataclasses.replace(self.conf, quantization=asked)
        return dataclasses.replace(self, calib="val", conf=conf)
