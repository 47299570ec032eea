"""What a training for int8 came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple

from lpot_lightning.training_log import TrainingLog


class Baseline(NamedTuple):
    """What int8 is compared with, and why that."""

    accuracy: float
    why: str


@dataclass(frozen=True)
class Trained:
    """What a training for int8 came to.

    Args:
        state: what ``Training.state`` gave when it was over.
        given: the accuracy to compare with, where the user gave one.
        start: the accuracy before the training, where it was measured.
        log: how it went, where somebody took notes.
    """

    state: Mapping[str, Any]
    given: float | None = None
    start: float | None = None
    log: TrainingLog | None = None

    def baseline(self, trained: float, higher_is_better: bool) -> Baseline:
        """Return what int8 is compared with.

        Args:
            trained: accuracy of the trained weights without rounding.
            higher_is_better: direction of the metric.
        """
        if self.given is not None:
            return Baseline(self.given, "a baseline is given")
        if self.start is None:
            return Baseline(trained, "nothing was measured before the training")
        if not isfinite(self.start):
            return Baseline(trained, f"before the training it was {self.start}, which says nothing")
        better = max if higher_is_better else min
        why = f"before the training it was {self.start:.4f}"
        return Baseline(better(self.start, trained), why)
