"""What a quantization run asks of whoever owns the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from lpot_lightning.tuning.screening import Watch


@dataclass(frozen=True)
class Evaluation:
    """One pass over the validation data.

    Args:
        accuracy: by the metric that is tuned for.
        batches: that were seen.
        seconds: it took.
        step_seconds: the median of its steps, the data being there; ``None`` where not measured.
    """

    accuracy: float
    batches: int
    seconds: float
    step_seconds: float | None = None


class Runner(Protocol):
    """Shows models data: the validation loop of a Trainer, or plain loaders and an eval_func."""

    @property
    def monitor(self) -> str:
        """The metric that is the accuracy; known after the first evaluation."""

    @property
    def higher_is_better(self) -> bool:
        """Its direction; known after the first evaluation."""

    @property
    def calibration(self) -> Any:
        """The calibration batches, for their fingerprint."""

    @property
    def samples(self) -> int:
        """How many samples the calibration batches hold."""

    def fresh(self) -> nn.Module:
        """Return a new copy of the model that is to be quantized."""

    def try_out(self, model: nn.Module) -> nn.Module:
        """Show ``model`` one calibration batch, and return the model to go on with."""

    def calibrate(self, model: nn.Module) -> None:
        """Show ``model`` all calibration batches."""

    def evaluate(self, model: nn.Module, label: str, watch: Watch | None = None) -> Evaluation:
        """Judge ``model`` by one pass over the validation data.

        Args:
            model: fp32 or int8.
            label: what the pass is for, for people.
            watch: looks at the pass after each batch; what it raises, or an exception of
                ``Ranks.together`` for it, ends the pass and comes through. A runner that cannot
                look into a pass never calls it.
        """

    def step_seconds(self, model: nn.Module) -> float:
        """Return the seconds of one step on one calibration batch."""
