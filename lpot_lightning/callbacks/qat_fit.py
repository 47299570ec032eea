"""What belongs to one fit that trains for int8."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch.distributed as dist
from lightning.pytorch import LightningModule
from torch import Tensor

from lpot_lightning.callbacks.freezing import BatchNorms, FreezePlan, Moment, has_batch_norm
from lpot_lightning.callbacks.length import Length
from lpot_lightning.callbacks.training_notes import TrainingNotes
from lpot_lightning.quantization.backend import Training

_STATISTICS, _RANGES = "statistics of BatchNorm", "ranges of activations"


class QATFit:
    """Since when a model rounds in one fit, and the ranges that its layers learn.

    Args:
        asked: from when on something is frozen, by argument of ``QATCallback``.

    Attributes:
        saved: what a checkpoint has of the fit that this one goes on with.
        start: the accuracy before the training, where it was measured.
        ranges: what the training for int8 has come to; ``None`` before it began.
        notes: how the training goes.
        is_planned: whether it is known what is frozen when.
    """

    def __init__(self, asked: Mapping[str, Moment]) -> None:
        self.saved: Mapping[str, Any] | None = None
        self.start: float | None = None
        self.notes = TrainingNotes()
        self.is_planned = False
        self._asked, self._plan = asked, FreezePlan()
        self._first = Moment()  # the epoch and the step in which the training for int8 began
        self._new_in: Moment | None = None  # those in which its ranges did
        self._said: set[str] = set()
        self._training: Training | None = None
        self._left: Mapping[str, Any] | None = None
        self._norms = BatchNorms()
        self._came: dict[str, int] = {}  # ops that came later, by the epoch in which they did

    @property
    def training(self) -> Training:
        """What rounds, from the start of the fit until the module is given back."""
        assert self._training is not None
        return self._training

    @property
    def ranges(self) -> Mapping[str, Any] | None:
        """Those of now, or of when the module was given back."""
        return self._left if self._training is None else self._training.state()

    @property
    def has_trained(self) -> bool:
        """Whether a batch was trained with the rounding."""
        return self._new_in is not None

    def take_up(self) -> None:
        """Go on with the accuracy, and the first epoch and step, that were saved."""
        assert self.saved is not None
        self.start = self.saved["start"]
        self._first = Moment(self.saved["first"], self.saved.get("first_step"))
        self._came = dict(self.saved.get("came", {}))
        self.notes = TrainingNotes.of(self.saved.get("log"))

    def begin(self, module: LightningModule, training: Training, *, goes_on: bool = False) -> None:
        """Let the layers of ``module`` round.

        Args:
            training: for it; that of before is let go.
            goes_on: whether its ranges are those of the fit that this one goes on with.
        """
        self._start(module, training)
        self._new_in = self._first if goes_on else None

    def _start(self, module: LightningModule, training: Training) -> None:
        self.let_go()
        training.observing = False
        training.attach(module)
        self._training = training

    def go_on(
        self, module: LightningModule, training: Training, kept: Collection[str], epoch: int
    ) -> None:
        """Let a model round whose layers are not all what they were.

        Args:
            module: see ``begin``.
            training: for it as it is now.
            kept: the ops that keep what they have learned; others learn from ``epoch`` on.
            epoch: of now.
        """
        training.take_over(self.training, kept)
        if self.has_trained:
            self._came |= dict.fromkeys(set(training.int8_ops) - set(kept), epoch)
        self._start(module, training)

    def plan(self, length: Length) -> None:
        """Plan from the first epoch and step on, known only after ``on_fit_start``.

        Raises:
            ConfError: if the fit is too short for what is to be frozen.
        """
        self._first = Moment(
            length.epoch if self._first.epoch is None else self._first.epoch,
            length.step if self._first.step is None else self._first.step,
        )
        self._plan = FreezePlan.of(length, self._first, self._asked)
        self.is_planned = True

    def newly_frozen(self, module: LightningModule, now: Moment) -> Iterator[str]:
        """Yield what is frozen from now on, for people; each thing once."""
        moments = {_STATISTICS: self._plan.batch_norm, _RANGES: self._plan.observers}
        for what, moment in moments.items():
            if what in self._said or not moment.has_come(now):
                continue
            self._said.add(what)
            if what == _RANGES or has_batch_norm(module):
                self.notes.note_frozen(what, now)
                yield what

    def begin_batch(self, module: LightningModule, now: Moment, *, renews: bool) -> None:
        """Let a batch teach ranges and statistics what they are still to learn.

        Args:
            renews: whether it passes only to renew the statistics of BatchNorm for an average.
        """
        self._new_in = now if self._new_in is None else self._new_in
        # ranges that are new when all are frozen learn for their first epoch
        is_new = now.epoch == self._new_in.epoch and self._plan.observers.has_come(self._new_in)
        learns = is_new or not self._plan.observers.has_come(now)
        young = [op for op, came in self._came.items() if came == now.epoch]
        self.training.observing = bool(renews or learns or young)
        self.training.learn_only(None if renews or learns else young)
        if renews:
            self._norms.release()
        elif self._plan.batch_norm.has_come(now):
            self._norms.freeze(module)

    def end_batch(self, processes: int) -> None:
        """Let no other data teach the ranges, and make them the same in all processes."""
        self.training.end_batch(_greatest if processes > 1 else None)
        self.training.observing = False

    def state(self, asked: str) -> dict[str, Any] | None:
        """Return what another fit goes on with as ``saved``, if anything has ranges."""
        ranges = self.ranges
        if ranges is None:
            return None
        return {
            "asked": asked,
            "start": self.start,
            "first": self._first.epoch,
            "first_step": self._first.step,
            "came": dict(self._came),
            "training": ranges,
            "log": self.notes.log.to_dict(),
        }

    def give_back(self) -> None:
        """Remember the ranges, and let the module compute by itself again."""
        self._left = self.ranges
        self.let_go()

    def let_go(self) -> None:
        """Leave the model as it was found, but for what it learned."""
        self._norms.release()
        training, self._training = self._training, None
        if training is not None:
            training.detach()


def has_ranges(state: Mapping[str, Any]) -> bool:
    """Return whether any batch was trained with the rounding."""
    return bool(state["ranges"]["high"].isfinite().any())


def _greatest(values: Tensor) -> None:
    """Put the greatest values of all processes into ``values``."""
    dist.all_reduce(values, op=dist.ReduceOp.MAX)
