"""What a trial is worth, where it stands, and whether it is good enough."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from lpot_lightning.conf.schema import AccuracyCriterionConf
from lpot_lightning.errors import ConfError
from lpot_lightning.machine.typed import NotNegative, check_typed, look_up_hints

_ROUNDING = 1e-12
"""Relative room for float rounding at the boundary: 0.3 - 0.1 is not 0.2 in binary."""


class TrialState(Enum):
    """Where a trial stands. ``Score.compared`` is the only step from one state to another.

    A recipe is no trial before it has a score, so that there is no state for one that is planned.
    """

    FAILED = "failed"
    """It gave no accuracy."""
    SCREENED = "screened"
    """It was ended early, being hopeless: its accuracy is an estimate, and it is never chosen."""
    JUDGED = "judged"
    """It was judged in full, and misses the criterion or was not compared with it yet."""
    MET = "met"
    """It was judged in full and meets the criterion."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """What one trial gave: a finite accuracy, or the reason why there is none.

    Args:
        accuracy: the judged metric, ``None`` where the trial failed.
        seconds: how long the trial took.
        evaluations: validation batches seen, divided by the batches of one full pass.
        failure: why there is no accuracy, ``None`` where there is one.
        objective: what the user wants least of, seconds, bytes; ``None`` where not measured.
        state: where the trial stands.

    Raises:
        ValueError: if neither, or both, of a finite accuracy and a failure are given, or the state
            is not that of what is given.

    Example::

        Score.of(0.93, seconds=1.5).accuracy   # 0.93
        Score.of(math.nan, seconds=1.5).failed  # True
    """

    accuracy: float | None
    seconds: NotNegative
    evaluations: NotNegative = 1.0
    failure: str | None = None
    objective: NotNegative | None = None
    state: TrialState = TrialState.JUDGED

    def __post_init__(self) -> None:
        finite = self.accuracy is not None and math.isfinite(self.accuracy)
        reason = self.failure is not None
        if finite == reason or (reason and self.accuracy is not None) or reason != self.failed:
            raise ValueError(
                f"a score is a finite accuracy or a failure, got {self.accuracy} and "
                f"{self.failure!r} of a trial that is `{self.state.value}`; use `Score.of`,"
                " `Score.screening` or `Score.failing`"
            )

    @property
    def failed(self) -> bool:
        """Whether the trial gave no accuracy."""
        return self.state is TrialState.FAILED

    @property
    def screened(self) -> bool:
        """Whether the trial was ended early, so that its accuracy is an estimate."""
        return self.state is TrialState.SCREENED

    @property
    def in_full(self) -> bool:
        """Whether there is an accuracy and it is no estimate."""
        return self.state in (TrialState.JUDGED, TrialState.MET)

    @property
    def accepted(self) -> bool:
        """Whether the criterion is met."""
        return self.state is TrialState.MET

    def compared(self, criterion: Criterion, baseline: float) -> Score:
        """Return the score with the state that the criterion gives it.

        What failed or was ended early stays so. One that the history of another run knows is
        compared again, and not taken at its word.

        Raises:
            ConfError: if the goal is relative and ``baseline`` is 0.
        """
        if self.accuracy is None or not self.in_full:
            return self
        met = criterion.accepts(self.accuracy, baseline)
        return replace(self, state=TrialState.MET if met else TrialState.JUDGED)

    def to_dict(self) -> dict[str, Any]:
        """Return what is written down; whether the criterion is met stands beside it there."""
        return {
            "accuracy": self.accuracy,
            "seconds": self.seconds,
            "evaluations": self.evaluations,
            "failure": self.failure,
            "objective": self.objective,
            "screened": self.screened,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], *, accepted: bool) -> Score:
        """Build from what ``to_dict`` gave.

        Raises:
            ValueError: if it is accepted and was not judged in full, or is no score at all.
            TypeError: if a field holds something else than a number or a text.
        """
        given = dict(plain)
        screened = given.pop("screened", False)
        check_typed((screened, accepted), tuple[bool, bool], "screened and accepted")
        score = cls(**given, state=_state(screened, given.get("failure") is not None))
        check_typed(score, cls, "score")
        if accepted and not score.in_full:
            raise ValueError(f"a trial that is `{score.state.value}` cannot be accepted")
        return replace(score, state=TrialState.MET) if accepted else score

    @classmethod
    def of(cls, accuracy: float, seconds: float, evaluations: float = 1.0) -> Score:
        """Return the score of an accuracy; one that is not finite is a failure."""
        value = float(accuracy)
        if math.isfinite(value):
            return cls(accuracy=value, seconds=seconds, evaluations=evaluations)
        return cls.failing(f"the accuracy is `{value}`", seconds, evaluations)

    @classmethod
    def failing(cls, reason: str, seconds: float, evaluations: float = 0.0) -> Score:
        """Return the score of a trial that gave no accuracy, and why."""
        return cls(
            accuracy=None,
            seconds=seconds,
            evaluations=evaluations,
            failure=reason,
            state=TrialState.FAILED,
        )

    @classmethod
    def screening(cls, estimate: float, seconds: float, evaluations: float) -> Score:
        """Return the score of a trial that was ended early, with what its accuracy looked like."""
        return cls(
            accuracy=estimate,
            seconds=seconds,
            evaluations=evaluations,
            state=TrialState.SCREENED,
        )


look_up_hints(Score)


def _state(screened: bool, failed: bool) -> TrialState:
    if failed:
        return TrialState.FAILED
    return TrialState.SCREENED if screened else TrialState.JUDGED


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

    @classmethod
    def of(cls, asked: AccuracyCriterionConf, higher_is_better: bool) -> Criterion:
        """Return the criterion that ``tuning.accuracy_criterion`` asks for."""
        relative = asked.relative is not None
        goal = asked.relative if relative else asked.absolute
        return cls(float(goal or 0.0), relative, higher_is_better)

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
