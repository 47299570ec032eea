"""Trials, ops and reasons, each in one line for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from lpot_lightning.machine.columns import on_one_line
from lpot_lightning.machine.numbers import shown_number
from lpot_lightning.recipe import Recipe, Rung
from lpot_lightning.tuning.score import Score
from lpot_lightning.tuning.trial import Trial

THE_MODEL = "the model itself"
"""How the module of all modules is called, which has no name."""


def trial_line(trial: Trial, monitor: str) -> str:
    """Return the one line that is said of a trial."""
    recipe, score, monitor = trial.recipe, trial.score, on_one_line(monitor)
    return (
        f"trial {trial.number}: {ops_of(recipe)}:"
        f" {_came_to(score, monitor)}, {score.seconds:.1f} s"
        f"{' (from history)' if trial.replayed else ''}"
    )


def ops_of(recipe: Recipe) -> str:
    """Return how many ops are on which rung, for people.

    Example::

        ops_of(recipe.with_fp32(["net.fc"]))  # "2 ops int8, 1 fp32"
    """
    counts = Counter(recipe.rungs.values())
    below = [
        f"{counts[rung]} {rung.value.removesuffix(' int8')}"
        for rung in (Rung.DYNAMIC, Rung.WEIGHT_ONLY)
        if counts[rung]
    ]
    how = f" ({', '.join(below)})" if below else ""
    bf16 = f" {counts[Rung.BF16]} bf16," if counts[Rung.BF16] else ""
    return f"{len(recipe.int8_ops)} ops int8{how},{bf16} {len(recipe.fp32_ops)} fp32"


def _came_to(score: Score, monitor: str) -> str:
    if score.failed:
        return f"failed: {on_one_line(score.failure or '')}"
    if score.screened:
        share = f"{score.evaluations:.0%} of the pass"
        return f"{monitor} about {score.accuracy:.2g} after {share}, given up"
    return (
        f"{monitor} {shown_number(score.accuracy or 0.0)}, {'met' if score.accepted else 'not met'}"
    )


def by_reason(excluded: Mapping[str, str]) -> list[str]:
    """Return one line a reason, with the names that it holds for.

    Example::

        by_reason({"a": "no kernel", "b": "no kernel"})  # ["a, b: no kernel"]
    """
    names: dict[str, list[str]] = {}
    for name, reason in excluded.items():
        names.setdefault(reason, []).append(name)
    return [f"{few_of(those)}: {reason}" for reason, those in names.items()]


def few_of(names: Sequence[str], most: int = 4) -> str:
    """Return the first names, and how many more there are; ``""`` is that of the model itself."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(on_one_line(name) or THE_MODEL for name in names[:most]) + rest
