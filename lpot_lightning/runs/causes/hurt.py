"""Why the ops that int8 hurts most are hurt: simulated once, kept, told."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

from lpot_lightning.quantization.backend import Prepared
from lpot_lightning.recipe import FP32, Op, OpConfig, Recipe, Rung
from lpot_lightning.runs.causes.words import NOT_FINITE, deed, left_by, of_rung, told
from lpot_lightning.runs.job import Job
from lpot_lightning.tuning.causes import (
    ENOUGH,
    OUTPUT_ERROR,
    Cause,
    CauseKind,
    cause_of,
    recipe_yaml,
    setting_yaml,
)
from lpot_lightning.tuning.history import History
from lpot_lightning.tuning.repair import EQUALIZATION, worst_of
from lpot_lightning.tuning.sensitivity import Sensitivity

MOST = 8
"""Ops that are looked at: the worst."""
HARMLESS = 0.02
"""Of the damage of the worst op: who does less is not hurt."""
HURTS = 1e-3
"""Damage from which on an op is hurt beside one that does not give numbers."""
CLEARLY = 1 / 3
"""Of an error: the first remedy that leaves no more than this is told, else the best."""


def find_causes(
    job: Job, history: History, recipe: Recipe, ranked: Sequence[Sensitivity]
) -> dict[str, Cause]:
    """Return why the ops that a ranking found to be hurt most are, and what helps each.

    Each is simulated without one thing after the other that int8 holds badly; what is left of its
    error decides. A remedy is told with the error that it was measured to leave.

    Args:
        job: its model is calibrated.
        history: where it goes, and comes from.
        recipe: whose ops were ranked.
        ranked: what they were ranked by.
    """
    known = history.finding("causes", recipe.key)
    if known is None:
        found = job.ranks.agreed(job.ranks.together(lambda: _all(job.prepared, recipe, ranked)))
        plain = {op: one.to_dict() for op, one in found.items()}
        history.keep("causes", recipe.key, {"ops": plain})
        return found
    return {op: Cause.from_dict(one) for op, one in known["ops"].items()}


def hurt_ops(ranked: Sequence[Sensitivity]) -> tuple[str, ...]:
    """Return the ops that int8 hurts most, those first whose error is not finite."""
    broken = [one.op for one in ranked if not one.is_finite]
    damages = {one.op: one.damage for one in ranked if one.is_finite}
    least = HARMLESS * max(damages.values(), default=0.0) if not broken else HURTS
    worst = [op for op in worst_of(ranked) if damages[op] >= least]
    return tuple([*broken, *worst][:MOST])


def _all(prepared: Prepared, recipe: Recipe, ranked: Sequence[Sensitivity]) -> dict[str, Cause]:
    ops, configs = {op.name: op for op in prepared.ops}, recipe.as_mapping()
    return {
        name: _Patient(prepared, ops[name], configs[name]).cause()
        for name in hurt_ops(ranked)
        if configs[name].rung.is_int8
    }


class _Patient:
    """One op that is hurt as ``config`` has it."""

    def __init__(self, prepared: Prepared, op: Op, config: OpConfig) -> None:
        self._prepared, self._op, self._config = prepared, op, config
        self._is_simulated = prepared.diagnoser.can_tell(op.name, config)

    def cause(self) -> Cause:
        """Return why, and what to do."""
        kind, found = CauseKind.NONE_OF_THESE, of_rung(self._config)
        if self._is_simulated:
            simulated = self._prepared.diagnoser.diagnosis(self._op.name, self._config)
            kind = cause_of(simulated.error, left_by(simulated))
            found = told(kind, simulated)
        before = self._error(self._config)
        if not math.isfinite(before):
            kind, found = CauseKind.NONE_OF_THESE, NOT_FINITE
        return Cause(kind=kind, found=found, remedy=self._remedy(kind, before))

    def _remedy(self, kind: CauseKind, before: float) -> str:
        """Return the first remedy that helps clearly, else the best; fp32 always helps."""
        was = before if math.isfinite(before) else math.inf
        best, left = FP32, (1 - ENOUGH) * was
        for config in self._candidates(kind):
            error = self._error(config)
            if math.isfinite(error) and error <= left:
                best, left = config, error
            if best is not FP32 and left <= CLEARLY * was:
                break
        after = 0.0 if best is FP32 else left
        whose = "its error" if self._is_simulated else f"the {OUTPUT_ERROR}"
        return f"{self._asked(best)} ({whose} {was:.2g} -> {after:.2g})"

    def _asked(self, config: OpConfig) -> str:
        """Return what to do, with its YAML; ``auto`` does so by itself if it may."""
        added = [one for one in config.corrections if one not in self._config.corrections]
        op = self._op.name
        yaml = recipe_yaml(added[0]) if added else setting_yaml(op, config)
        return f"{deed(config, self._config)}: `{yaml}`"

    def _candidates(self, kind: CauseKind) -> Iterator[OpConfig]:
        """Yield what may help, the cheapest first."""
        if kind is CauseKind.UNEQUAL_CHANNELS:
            yield from self._corrected(EQUALIZATION)
        if kind in (CauseKind.OUTLIERS, CauseKind.NEGATIVE_TAIL, CauseKind.NONE_OF_THESE):
            yield from self._other_ranges()
        if kind is CauseKind.NONE_OF_THESE:
            others = [one for one in self._op.corrections if one != EQUALIZATION]
            yield from self._corrected(*others)
        lower = (*self._op.settings_of(Rung.DYNAMIC), *self._op.settings_of(Rung.WEIGHT_ONLY))
        yield from (one for one in lower if one != self._config)

    def _corrected(self, *corrections: str) -> Iterator[OpConfig]:
        for one in corrections:
            can = one in self._op.corrections and one not in self._config.corrections
            if can and self._is_simulated:
                both = (*self._config.corrections, one)
                yield dataclasses.replace(self._config, corrections=both)

    def _other_ranges(self) -> Iterator[OpConfig]:
        """Yield the other algorithms of the same scheme."""
        now = self._config.activation
        for one in self._op.settings_of(Rung.STATIC) if self._is_simulated else ():
            asked = one.activation
            if asked.scheme == now.scheme and asked.algorithm not in (now.algorithm, "trained"):
                yield dataclasses.replace(one, corrections=self._config.corrections)

    def _error(self, config: OpConfig) -> float:
        if self._is_simulated:
            return self._prepared.diagnoser.error(self._op.name, config)
        return self._prepared.error(Recipe.of({self._op.name: config}), (self._op.name,))
