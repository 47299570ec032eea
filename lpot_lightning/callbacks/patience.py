"""Early stopping, made to wait while a model is on its way to a target."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities import rank_zero_info

from lpot_lightning.trainer.package import either

_HELD = -2
"""A count that no check leaves as it is: it makes -1 of it, or 0 where something was better."""


class HeldPatience:
    """Keeps each ``EarlyStopping`` of a trainer from running out of patience.

    Only its ``wait_count`` is held, so that all else ends a fit as ever: a metric that is not
    finite, and its thresholds. What it would have counted is counted here, and given back.

    Example::

        held = HeldPatience("the target sparsity")
        held.hold(trainer)  # before each of its checks
        held.let_go()
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._waited: dict[EarlyStopping, int] = {}
        self._told: set[EarlyStopping] = set()

    def hold(self, trainer: Trainer) -> None:
        """Let the next check of each find patience left; tell once where there was none."""
        for one in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(one, either(EarlyStopping)):
                self._waited[one] = self._count(one)
                one.wait_count = _HELD
                self._tell(one)

    def _count(self, one: EarlyStopping) -> int:
        """Return how often it would have waited by now."""
        before, now = self._waited.get(one), one.wait_count
        if before is None or now >= 0:
            return now
        return before + now - _HELD

    def _tell(self, one: EarlyStopping) -> None:
        if self._waited[one] >= one.patience and one not in self._told:
            self._told.add(one)
            rank_zero_info(
                f"`{type(one).__name__}` waits for {self._target}: `{one.monitor}` was no better"
                f" {self._waited[one]} times, which would have ended the training here;"
                " `wait_for_target=False` lets it"
            )

    def put_into(self, checkpoint: dict[str, Any]) -> None:
        """Put the counts into a checkpoint that would have been there."""
        states = checkpoint.get("callbacks", {})
        for one in self._waited:
            if "wait_count" in states.get(one.state_key, {}):
                states[one.state_key]["wait_count"] = self._count(one)

    def let_go(self) -> None:
        """Give the counts back."""
        for one in self._waited:
            one.wait_count = self._count(one)
        self._waited = {}
        self._told = set()
