"""What belongs to one fit that trains for int8."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch.distributed as dist
from lightning.pytorch import LightningModule
from torch import Tensor

from lpot_lightning.callbacks.freezing import BatchNorms, FreezePlan, has_batch_norm
from lpot_lightning.module.past_the_graph import Strays
from lpot_lightning.quantization.backend import Training


class QATFit:
    """Which parts of a model round in one fit, since when, and the ranges that they learn.

    Args:
        max_epochs: of the trainer.
        freeze_batch_norm: as for ``QATCallback``; so is ``freeze_observers``.

    Attributes:
        saved: what a checkpoint has of the fit that this one goes on with.
        start: the accuracy before the training, where it was measured.
        avoid: paths of modules that may be no parts.
        ranges: what the training for int8 has come to; ``None`` before it began.

    Raises:
        ConfError: if there are too few epochs for what is to be frozen.
    """

    def __init__(
        self, max_epochs: int | None, freeze_batch_norm: int | None, freeze_observers: int | None
    ) -> None:
        self.saved: Mapping[str, Any] | None = None
        self.start: float | None = None
        self.avoid: set[str] = set()
        self._epochs, self._asked = max_epochs, (freeze_batch_norm, freeze_observers)
        self._plan = FreezePlan.of(max_epochs, 0, *self._asked)
        self._first: int | None = None  # the epoch in which the training for int8 began
        self._new_in: int | None = None  # the one in which the ranges of these parts did
        self._is_planned = False
        self._said: set[str] = set()
        self._batches = 0
        self._training: Training | None = None
        self._left: Mapping[str, Any] | None = None
        self._norms, self._strays = BatchNorms(), Strays()

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
    def strays(self) -> set[str]:
        """The layers that were called past the part that holds them, in this process."""
        return self._strays.found

    @property
    def has_trained(self) -> bool:
        """Whether a batch was trained with the rounding."""
        return self._new_in is not None

    def take_up(self) -> None:
        """Go on with the accuracy and the first epoch that were saved."""
        assert self.saved is not None
        self.start, self._first = self.saved["start"], self.saved["first"]

    def begin(self, module: LightningModule, training: Training, *, goes_on: bool = False) -> None:
        """Let the parts of ``module`` round.

        Args:
            training: its parts; those of before are let go.
            goes_on: whether their ranges are those of the fit that this one goes on with.
        """
        self.let_go()
        training.observing = False
        training.attach(module)
        self._strays.watch(module, training.layers)
        self._training, self._new_in = training, self._first if goes_on else None

    def begin_epoch(self, module: LightningModule, epoch: int) -> Iterator[str]:
        """Yield what is frozen from this epoch on, for people; each thing once."""
        self._plan_from(epoch)
        frozen = {
            "statistics of BatchNorm": has_batch_norm(module)
            and self._plan.freezes_batch_norm(epoch),
            "ranges of activations": self._plan.freezes_observers(epoch),
        }
        for what, is_frozen in frozen.items():
            if is_frozen and what not in self._said:
                self._said.add(what)
                yield what

    def _plan_from(self, epoch: int) -> None:
        """Plan from the first epoch on, which Lightning knows only after ``on_fit_start``."""
        if self._is_planned:
            return
        self._first = epoch if self._first is None else self._first
        self._plan = FreezePlan.of(self._epochs, self._first, *self._asked)
        self._is_planned = True

    def looks_for_strays(self, batch: int, processes: int) -> bool:
        """Return whether to look before this batch of an epoch which layers are called past parts.

        Processes have to ask each other, and do so before the first batch of each epoch and the
        second of the fit.
        """
        return processes == 1 or batch == 0 or self._batches == 1

    def begin_batch(self, module: LightningModule, epoch: int, *, renews: bool) -> None:
        """Let a batch teach ranges and statistics what they are still to learn.

        Args:
            renews: whether it passes only to renew the statistics of BatchNorm for an average.
        """
        self._batches += 1
        self._plan_from(epoch)
        self._new_in = epoch if self._new_in is None else self._new_in
        learns = epoch == self._new_in or not self._plan.freezes_observers(epoch)
        self.training.observing = renews or learns
        if renews:
            self._norms.release()
        elif self._plan.freezes_batch_norm(epoch):
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
        return {"asked": asked, "start": self.start, "first": self._first, "training": ranges}

    def give_back(self) -> None:
        """Remember the ranges, and let the module compute by itself again."""
        self._left = self.ranges
        self.let_go()

    def let_go(self) -> None:
        """Leave the model as it was found, but for what it learned."""
        self._strays.stop()
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
