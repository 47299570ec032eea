"""All causes that a run knows, by op."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from lpot_lightning.recipe import OpConfig, Recipe, Rung
from lpot_lightning.runs.causes.known import of_asked, of_breaks, of_excluded, of_slower
from lpot_lightning.runs.job import Job
from lpot_lightning.runs.paying_result import NotPaying
from lpot_lightning.tuning.causes import OUTPUT_ERROR, Cause, recipe_yaml, setting_yaml
from lpot_lightning.tuning.repair import Repair
from lpot_lightning.tuning.trial import Trial


def all_causes(
    job: Job,
    *,
    hurt: Mapping[str, Cause],
    not_quantizable: Mapping[str, str],
    not_paying: Mapping[str, NotPaying],
    asked_fp32: Iterable[str],
    repairs: Iterable[Repair],
    trials: Sequence[Trial],
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
        trials: of the run.
        recipe: of the model that came out.
    """
    breaks = job.ranks.agreed(job.ranks.together(lambda: dict(job.prepared.untraced())))
    root = type(job.model).__name__
    named = {name or root: one for name, one in breaks.items()}
    return {
        **of_breaks(named),
        **of_excluded(not_quantizable, root),
        **of_asked(asked_fp32),
        **with_what_was_done(with_repairs(hurt, repairs), trials, recipe),
        **of_slower(not_paying),
    }


def with_repairs(hurt: Mapping[str, Cause], repairs: Iterable[Repair]) -> dict[str, Cause]:
    """Return causes with what was repaired of them.

    Example::

        with_repairs(causes, repairs)["fc"].repaired
        # "cross_layer_equalization, error of the output 0.21 -> 0.03"
    """
    done: dict[str, list[str]] = {}
    for one in repairs:
        told = f"{one.what}, {OUTPUT_ERROR} {one.before:.2g} -> {one.after:.2g}"
        done.setdefault(one.op, []).append(told)
    return {
        op: dataclasses.replace(cause, repaired="; ".join(done.get(op, ())))
        for op, cause in hurt.items()
    }


def with_what_was_done(
    hurt: Mapping[str, Cause], trials: Sequence[Trial], recipe: Recipe
) -> dict[str, Cause]:
    """Return causes that advise nothing that a run has tried: they say what became of it.

    Args:
        hurt: with what helps each op as it was in the first trial.
        trials: of the run.
        recipe: of the model that came out.
    """
    chosen, tried = recipe.as_mapping(), [(one, one.recipe.as_mapping()) for one in trials]
    return {
        op: _done(op, cause, chosen[op], {one.number: each[op] for one, each in tried})
        if op in chosen
        else cause
        for op, cause in hurt.items()
    }


def _done(op: str, cause: Cause, now: OpConfig, tried: Mapping[int, OpConfig]) -> Cause:
    """Return the cause of an op that has been ``tried`` so, by trial, and is ``now`` so."""
    asked = cause.remedy
    had = next((number for number, one in tried.items() if _has(op, one, asked)), None)
    is_so, went = _has(op, now, asked), now.rung is not next(iter(tried.values()), now).rung
    if had is None and not is_so:
        return cause
    facts = [cause.found]
    if had is not None and not is_so:
        facts.append(f"trial {had} had it {_as(tried[had])}, which was not taken")
    if went:
        facts.append(f"it is {_now(now.rung)} now")
    elif is_so and not cause.repaired:
        facts.append("what helps is in this model")
    return dataclasses.replace(cause, found="; ".join(facts), remedy="")


def _has(op: str, config: OpConfig, remedy: str) -> bool:
    asked = (setting_yaml(op, config), *map(recipe_yaml, config.corrections))
    return any(f"`{one}`" in remedy for one in asked)


def _as(config: OpConfig) -> str:
    if config.rung is Rung.STATIC:
        return "repaired"
    told = _now(config.rung)
    return told if told.startswith("in ") else f"as {told}"


def _now(rung: Rung) -> str:
    """Return a rung as it stands after "it is"."""
    return f"in {rung.value}" if rung in (Rung.FP32, Rung.BF16) else rung.value
