"""What is noted of a fit that trains for int8, for its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lpot_lightning.callbacks.freezing import Moment
from lpot_lightning.training_log import EpochNotes, FrozenPart, TrainingLog


class TrainingNotes:
    """Losses, accuracies and frozen parts of a fit, also of one that goes on.

    Losses are summed up on their device: to read each would let a GPU wait.
    """

    def __init__(self, log: TrainingLog | None = None) -> None:
        before = log or TrainingLog()
        self._epochs, self._frozen = EpochNotes(before.epochs), list(before.frozen)
        self._epoch = 0
        self._sum: Tensor | None = None
        self._batches = 0

    @classmethod
    def of(cls, plain: Mapping[str, Any] | None) -> TrainingNotes:
        """Go on with what a checkpoint has, which is checked; earlier versions have nothing."""
        return cls(None if plain is None else TrainingLog.from_dict(plain))

    def note_loss(self, epoch: int, outputs: Any, parts: int) -> None:
        """Take in what a batch came to.

        Args:
            epoch: of now.
            outputs: of ``training_step``, as ``on_train_batch_end`` gets them.
            parts: by how many batches of one step of the optimizer Lightning has divided the loss.
        """
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            return  # optimized by hand, and nothing was returned
        if epoch != self._epoch:
            self._add_up()
        whole = loss.detach().reshape(()).float() * parts
        self._epoch, self._batches = epoch, self._batches + 1
        self._sum = whole if self._sum is None else self._sum + whole

    def note_accuracy(self, epoch: int, accuracy: float) -> None:
        """Take in what a validation of an epoch gave."""
        self._epochs.note_accuracy(epoch, accuracy)

    def note_frozen(self, what: str, now: Moment) -> None:
        """Take in what is frozen from now on; a fit that goes on freezes again what was."""
        if all(one.what != what for one in self._frozen):
            self._frozen.append(FrozenPart(what, now.epoch or 0, now.step or 0))

    @property
    def log(self) -> TrainingLog:
        """What is noted up to now."""
        self._add_up()
        return TrainingLog(self._epochs.epochs, tuple(self._frozen))

    def _add_up(self) -> None:
        if self._sum is not None:
            self._epochs.note_losses(self._epoch, float(self._sum), self._batches)
        self._sum, self._batches = None, 0
