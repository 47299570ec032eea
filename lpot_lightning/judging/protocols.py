"""What a run asks of those who own the data: how good is this model, and show it some."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn

from lpot_lightning.tuning.screening import Recorder, Watch


@dataclass(frozen=True)
class Monitor:
    """The metric that is the accuracy, and its direction.

    Args:
        name: of it.
        higher_is_better: which way is up.
        is_guessed: whether nothing says the direction, and its name tells nobody.
    """

    name: str
    higher_is_better: bool
    is_guessed: bool = field(default=False, compare=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """What people are to know of it, each one sentence."""
        if not self.is_guessed:
            return ()
        return (
            f"`{self.name}` is taken as higher is better, as nothing says which way it is: if it is"
            " not, set `tuning.accuracy_criterion.higher_is_better: false` in the YAML",
        )


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One pass over the validation data.

    Args:
        accuracy: by the metric that is tuned for.
        monitor: that metric.
        batches: that were seen.
        seconds: it took.
        step_seconds: the median of its steps, the data being there; ``None`` where not measured.
    """

    accuracy: float
    monitor: Monitor
    batches: int
    seconds: float
    step_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class EarlierPass:
    """A pass that was over before it was asked for.

    Args:
        evaluation: what came out of it.
        recorder: has seen it.
        where: it was, for people.
    """

    evaluation: Evaluation
    recorder: Recorder
    where: str


class Judge(Protocol):
    """Says how good models are: the validation loop of a Trainer, or a function."""

    def seen(self, model: nn.Module) -> EarlierPass | None:
        """Return a pass that this very model has gone through, over the same data, if any.

        In all processes if in one.
        """

    def evaluate(self, model: nn.Module, label: str, watch: Watch | None = None) -> Evaluation:
        """Judge ``model`` by one pass over the validation data.

        Args:
            model: fp32 or int8.
            label: what the pass is for, for people.
            watch: looks at the pass after each batch; what it raises, or an exception of
                ``Ranks.together`` for it, ends the pass and comes through. A judge that cannot
                look into a pass never calls it.
        """


class Feed(Protocol):
    """Shows models data: training batches in a ``validation_step``, or plain loaders.

    Nothing is drawn before it is asked for.
    """

    @property
    def batches(self) -> Any:
        """The calibration batches, for their fingerprint."""

    @property
    def samples(self) -> int:
        """How many samples they hold."""

    def fresh(self) -> nn.Module:
        """Return a new copy of the model that is to be quantized."""

    def try_out(self, model: nn.Module) -> nn.Module:
        """Show ``model`` one calibration batch, and return the model to go on with."""

    def calibrate(self, model: nn.Module) -> None:
        """Show ``model`` all calibration batches."""

    def step_seconds(self, model: nn.Module, runs: int = 1) -> list[float]:
        """Return the seconds of one step on one calibration batch, of each of ``runs``."""
