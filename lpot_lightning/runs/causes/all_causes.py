"""All causes that a run knows, by op."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from lpot_lightning.recipe import Recipe
from lpot_lightning.runs.causes.known import of_asked, of_breaks, of_excluded, of_slower
from lpot_lightning.runs.job import Job
from lpot_lightning.runs.paying_result import NotPaying
from lpot_lightning.tuning.causes import Cause, setting_yaml
from lpot_lightning.tuning.repair import Repair


def all_causes(
    job: Job,
    *,
    hurt: Mapping[str, Cause],
    not_quantizable: Mapping[str, str],
    not_paying: Mapping[str, NotPaying],
    asked_fp32: Iterable[str],
    repairs: Iterable[Repair],
    recipe: Recipe,
) -> dict[str, Cause]:
    """Return why ops are hurt or not int8, by their names; so of modules that are no graphs.

    Args:
        job: its model has run in int8.
        hurt: what a ranking has found.
        not_quantizable: see ``TuningResult``; so for the others.
        not_paying: see there.
        asked_fp32: see there.
        repairs: see there.
        recipe: of the model that came out.
    """
    breaks = job.ranks.agreed(job.ranks.together(lambda: dict(job.prepared.untraced())))
    named = {name or type(job.model).__name__: one for name, one in breaks.items()}
    return {
        **of_breaks(named),
        **of_excluded(not_quantizable),
        **of_asked(asked_fp32),
        **with_what_is_so(with_repairs(hurt, repairs), recipe),
        **of_slower(not_paying),
    }


def with_repairs(hurt: Mapping[str, Cause], repairs: Iterable[Repair]) -> dict[str, Cause]:
    """Return causes with what was repaired of them.

    Example::

        with_repairs(causes, repairs)["fc"].repaired
        # "cross_layer_equalization, error 0.21 -> 0.03"
    """
    done: dict[str, list[str]] = {}
    for one in repairs:
        told = f"{one.what}, error {one.before:.2g} -> {one.after:.2g}"
        done.setdefault(one.op, []).append(told)
    return {
        op: dataclasses.replace(cause, repaired="; ".join(done.get(op, ())))
        for op, cause in hurt.items()
    }


def with_what_is_so(hurt: Mapping[str, Cause], recipe: Recipe) -> dict[str, Cause]:
    """Return causes that say so where a remedy is what ``recipe`` has already."""
    done = {op for op, one in recipe.ops if op in hurt and setting_yaml(op, one) in hurt[op].remedy}
    return {
        op: dataclasses.replace(cause, remedy=f"{cause.remedy}; so it is in this model")
        if op in done
        else cause
        for op, cause in hurt.items()
    }
