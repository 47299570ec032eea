"""What a trial is worth and whether it is good enough."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lpot_lightning.errors import ConfError

_ROUNDING = 1e-12
"""Relative room for float rounding at the boundary: 0.3 - 0.1 is not 0.2 in binary."""


@dataclass(frozen=True)
class Score:
    """What one trial gave: a finite accuracy, or the reason why there is none.

    Args:
        accuracy: the judged metric, ``None`` where the trial failed.
        seconds: how long the trial took.
        evaluations: validation batches seen, divided by the batches of one full pass.
        failure: why there is no accuracy, ``None`` where there is one.
        objective: what the user wants least of, seconds, bytes; ``None`` where not measured.
        screened: whether the trial was ended early, being hopeless: its accuracy is an estimate,
            and it is neither accepted nor chosen.

    Raises:
        ValueError: if neither, or both, of a finite accuracy and a failure are given.

    Example::

        Score.of(0.93, seconds=1.5).accuracy   # 0.93
        Score.of(math.nan, seconds=1.5).failed  # True
    """

    accuracy: float | None
    seconds: float
    evaluations: float = 1.0
    failure: str | None = None
    objective: float | None = None
    screened: bool = False

    def __post_init__(self) -> None:
        finite = self.accuracy is not None and math.isfinite(self.accuracy)
        if finite == self.failed or (self.failed and self.accuracy is not None):
            raise ValueError(
                f"a score is a finite accuracy or a failure, got {self.accuracy} and "
                f"{self.failure!r}; use `Score.of` or `Score.failing`"
            )

    @property
    def failed(self) -> bool:
        """Whether the trial gave no accuracy."""
        return self.failure is not None

    @classmethod
    def of(cls, accuracy: float, seconds: float, evaluations: float = 1.0) -> Score:
        """Return the score of an accuracy; one that is not finite is a failure."""
        value = float(accuracy)
        if math.isfinite(value):
            return cls(value, seconds, evaluations)
        return cls.failing(f"the accuracy is `{value}`", seconds, evaluations)

    @classmethod
    def failing(cls, reason: str, seconds: float, evaluations: float = 0.0) -> Score:
        """Return the score of a trial that gave no accuracy, and why."""
        return cls(None, seconds, evaluations, failure=reason)


@dataclass(frozen=True)
class Criterion:
    """How much worse than the baseline a model may be.

    The target is LPOT 1.x's (``lpot/objective.py``), ``baseline * (1 - goal)`` or
    ``baseline - goal`` and mirrored for lower-is-better, with three repairs: a relative goal is a
    share of ``abs(baseline)``, so that negative baselines move the right way; the target itself is
    accepted in both directions (LPOT refused it for lower-is-better); and float rounding does not
    decide at the boundary.

    Args:
        goal: the drop that is allowed; negative demands an improvement.
        relative: whether ``goal`` is a share of the baseline (0.01 is 1 %) or in its unit.
        higher_is_better: whether a greater accuracy is a better one.

    Raises:
        ConfError: if ``goal`` is not finite, or is relative and not between -1 and 1.

    Example::

        Criterion(0.01, relative=True, higher_is_better=True).accepts(0.892, baseline=0.9)  # True
    """

    goal: float
    relative: bool
    higher_is_better: bool

    def __post_init__(self) -> None:
        name = f"tuning.accuracy_criterion.{'relative' if self.relative else 'absolute'}"
        if not math.isfinite(self.goal):
            raise ConfError(f"`{name}` is `{self.goal}`; allowed: a finite number")
        if self.relative and not -1 < self.goal < 1:
            raise ConfError(
                f"`{name}` is `{self.goal}`; allowed: more than -1 and less than 1 "
                "(1 % is 0.01); for a drop in the metric's own unit use `absolute`"
            )

    def target(self, baseline: float) -> float:
        """Return the worst accuracy that is accepted.

        Raises:
            ConfError: if the goal is relative and ``baseline`` is 0.
        """
        return baseline - self._sign * self.goal * self._unit(baseline)

    def accepts(self, accuracy: float, baseline: float) -> bool:
        """Return whether ``accuracy`` is good enough; one that is not finite never is.

        Raises:
            ConfError: if the goal is relative and ``baseline`` is 0.
        """
        target = self.target(baseline)
        room = _ROUNDING * max(abs(target), abs(baseline))
        return math.isfinite(accuracy) and self._sign * (accuracy - target) >= -room

    def drop(self, accuracy: float, baseline: float) -> float:
        """Return how much worse ``accuracy`` is, in the unit of the goal; negative is better.

        Raises:
            ConfError: if the goal is relative and ``baseline`` is 0.
        """
        return self._sign * (baseline - accuracy) / self._unit(baseline)

    def is_better(self, a: float, b: float) -> bool:
        """Return whether accuracy ``a`` is strictly better than ``b``."""
        return a > b if self.higher_is_better else a < b

    @property
    def _sign(self) -> int:
        return 1 if self.higher_is_better else -1

    def _unit(self, baseline: float) -> float:
        if not self.relative:
            return 1.0
        if baseline == 0:
            raise ConfError(
                "`tuning.accuracy_criterion.relative` is a share of the baseline, and the baseline "
                "accuracy is 0; use `absolute`"
            )
        return abs(baseline)
