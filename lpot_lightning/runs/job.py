"""What one quantization is about: given by the caller, found out at its beginning."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import nn

from lpot_lightning.artifacts.traits import Traits
from lpot_lightning.conf.schema import Conf
from lpot_lightning.deploy.origin import UNKNOWN, Origin
from lpot_lightning.judging.protocols import Feed, Monitor
from lpot_lightning.machine.ranks import Ranks
from lpot_lightning.module.fingerprint import fingerprint
from lpot_lightning.quantization.backend import Backend, Prepared
from lpot_lightning.runs.options import Listener, Options
from lpot_lightning.runs.reporting.surroundings import about_tuning
from lpot_lightning.runs.trained import Trained
from lpot_lightning.tuning.about import About
from lpot_lightning.tuning.score import Criterion


@dataclass(frozen=True, kw_only=True)
class Job:
    """One model that is calibrated and to be quantized.

    Args:
        conf: checked.
        feed: shows models data.
        monitor: the metric that they are judged by.
        options: what the caller asks for besides the conf.
        listener: who hears of it.
        backend: the way to int8.
        model: fp32, in eval mode; its parts are exchanged for a while, and at the end for good.
        prepared: its observed parts.
        baseline: accuracy of the fp32 model.
        fp32_passes: over the validation data, that it took to know it.
        criterion: how much of it may be lost.
        trained: what a training for int8 came to, where there was one.
        traits: what the model is known by in its files, besides its tensors.
        origin: what was seen of its calls while it was calibrated.
    """

    conf: Conf
    feed: Feed
    monitor: Monitor
    options: Options
    listener: Listener
    backend: Backend
    model: nn.Module
    prepared: Prepared
    baseline: float
    fp32_passes: int
    criterion: Criterion
    trained: Trained | None = None
    traits: Traits = Traits()
    origin: Origin = UNKNOWN

    @cached_property
    def about(self) -> About:
        """What is asked for, and where it runs."""
        return about_tuning(self.conf, self.monitor.name, self.criterion)

    @property
    def ranks(self) -> Ranks:
        """The processes that work together."""
        return self.options.ranks

    @property
    def folder(self) -> Path | None:
        """Where this process writes: nowhere, if it is not the first."""
        return self.options.workspace.folder if self.ranks.rank == 0 else None

    @property
    def fp32(self) -> dict[str, str]:
        """Names, shapes and dtypes of the model."""
        return fingerprint(self.model)
