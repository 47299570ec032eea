"""How a training went: losses, what was frozen, how sparse."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lpot_lightning.machine.typed import NotNegative, check_typed, look_up_hints


@dataclass(frozen=True, kw_only=True)
class EpochLog:
    """One epoch of a training.

    Args:
        epoch: its number, counted from 0.
        loss: the mean of what ``training_step`` returned, in the first process; ``None`` where it
            returned no loss, or one that is not finite.
        batches: how many batches the mean is of.
        accuracy: what the last validation of the epoch gave; ``None`` where there was none.
    """

    epoch: int
    loss: float | None = None
    batches: int = 0
    accuracy: float | None = None


@dataclass(frozen=True)
class FrozenPart:
    """What stays as it is from a moment of a training on.

    Args:
        what: for people, as ``"ranges of activations"``.
        epoch: from which on, counted from 0.
        step: of the optimizer, counted from 0.
    """

    what: str
    epoch: int
    step: int


@dataclass(frozen=True, kw_only=True)
class SparsityLog:
    """How sparse a model was at a moment of a training.

    Args:
        unit: what ``at`` counts, ``"epoch"`` or ``"step"``.
        at: the epoch, or the step of the optimizer, that begins then.
        layers: the share of zeros in each pruned parameter.
    """

    unit: str
    at: int
    layers: Mapping[str, NotNegative]


@dataclass(frozen=True)
class TrainingLog:
    """How a training went.

    Args:
        epochs: in their order.
        frozen: what was frozen, in the order of freezing.
        sparsity: whenever more was pruned.

    Example::

        qat = QATCallback("qat.yaml", monitor="val_acc")
        Trainer(max_epochs=8, callbacks=[qat]).fit(model, datamodule=data)
        for one in qat.result.training.epochs:
            print(one.epoch, one.loss, one.accuracy)
    """

    epochs: tuple[EpochLog, ...] = ()
    frozen: tuple[FrozenPart, ...] = ()
    sparsity: tuple[SparsityLog, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "epochs": [asdict(one) for one in self.epochs],
            "frozen": [asdict(one) for one in self.frozen],
            "sparsity": [{**vars(one), "layers": dict(one.layers)} for one in self.sparsity],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> TrainingLog:
        """Build from what ``to_dict`` gave.

        Raises:
            TypeError: if it is anything else.
            KeyError: if something is missing.
        """
        check_typed(dict(plain), dict[str, list[dict[str, Any]]], "training")
        found = cls(
            tuple(EpochLog(**one) for one in plain["epochs"]),
            tuple(FrozenPart(**one) for one in plain["frozen"]),
            tuple(SparsityLog(**one) for one in plain["sparsity"]),
        )
        check_typed(found, cls, "training")
        return found


look_up_hints(TrainingLog, dict[str, list[dict[str, Any]]])


class EpochNotes:
    """Takes notes of the epochs of a training, also of one that goes on in the middle of one.

    Args:
        epochs: what is noted already.
    """

    def __init__(self, epochs: tuple[EpochLog, ...] = ()) -> None:
        self._epochs = {one.epoch: one for one in epochs}

    @property
    def epochs(self) -> tuple[EpochLog, ...]:
        """What is noted, in the order of the epochs."""
        return tuple(self._epochs[one] for one in sorted(self._epochs))

    def note_losses(self, epoch: int, total: float, batches: int) -> None:
        """Take in losses of some batches of an epoch.

        Args:
            epoch: its number.
            total: their sum.
            batches: how many they are.
        """
        now = self._epochs.get(epoch, EpochLog(epoch=epoch))
        if now.batches and now.loss is None:
            total = math.nan
        count = now.batches + batches
        mean = ((now.loss or 0.0) * now.batches + total) / count
        loss = mean if math.isfinite(mean) else None
        self._epochs[epoch] = EpochLog(epoch=epoch, loss=loss, batches=count, accuracy=now.accuracy)

    def note_accuracy(self, epoch: int, accuracy: float) -> None:
        """Take in what a validation gave; one that is not finite says nothing."""
        now = self._epochs.get(epoch, EpochLog(epoch=epoch))
        known = accuracy if math.isfinite(accuracy) else None
        self._epochs[epoch] = EpochLog(
            epoch=epoch, loss=now.loss, batches=now.batches, accuracy=known
        )


LEAST_GROWTH = 0.02
"""By how much the share of zeros of some parameter has to have grown to be noted again."""


class SparsityNotes:
    """Takes notes of how sparse a model becomes, whenever that is worth it.

    Args:
        noted: what is noted already.
    """

    def __init__(self, noted: tuple[SparsityLog, ...] = ()) -> None:
        self.noted = noted

    def note(self, now: SparsityLog, *, last: bool) -> None:
        """Take in how sparse it is now, if that has grown.

        Args:
            now: how sparse it is.
            last: whether it will not get any sparser; that is noted in any case.
        """
        before = self.noted[-1].layers if self.noted else {}
        grown = (share - before.get(name, 0.0) for name, share in now.layers.items())
        if last or not self.noted or max(grown, default=0.0) >= LEAST_GROWTH:
            self.noted = (*self.noted, now)
