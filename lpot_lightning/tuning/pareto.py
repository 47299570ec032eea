"""The trials that no other beats in both accuracy and objective."""

from __future__ import annotations

from collections.abc import Iterable

from lpot_lightning.tuning.score import Criterion
from lpot_lightning.tuning.trial import Trial


def pareto(trials: Iterable[Trial], criterion: Criterion) -> tuple[Trial, ...]:
    """Return the trials to choose among, the one with the least objective first.

    A trial is left out where another has as good an accuracy and as little of the objective, one
    of them strictly, or where it was not judged in full or its objective is not known. Of equal
    ones the first stays.

    Args:
        trials: in any order.
        criterion: which accuracy is the better one.

    Example::

        [(trial.score.accuracy, trial.score.objective) for trial in pareto(trials, criterion)]
    """
    judged = [
        trial for trial in trials if trial.score.in_full and trial.score.objective is not None
    ]
    sign = 1 if criterion.higher_is_better else -1
    judged.sort(key=lambda t: (t.score.objective, -sign * (t.score.accuracy or 0.0), t.number))
    front: list[Trial] = []
    for trial in judged:
        best = front[-1].score.accuracy if front else None
        if best is None or criterion.is_better(trial.score.accuracy or 0.0, best):
            front.append(trial)
    return tuple(front)
