"""Repair before fallback: what hardly costs speed and lowers the error of the worst ops."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from lpot_lightning.recipe import CORRECTIONS, OpConfig, Recipe
from lpot_lightning.tuning.sensitivity import Sensitivity
from lpot_lightning.tuning.space import Space

EQUALIZATION = "cross_layer_equalization"
SHARE = 0.99
"""The worst ops are the fewest that hold this share of the damage of all."""
MARGIN = 0.05
"""What does not lower an error by this share of it is not kept: it was measured on one batch."""

ErrorOf = Callable[[Recipe, Collection[str]], float]
"""The error with some ops alone in int8, as the recipe has them."""


@dataclass(frozen=True)
class Repair:
    """One thing that was done.

    Args:
        op: to which op.
        what: a correction, or the new setting of its activation.
        before: the error without it.
        after: the error with it.
    """

    op: str
    what: str
    before: float
    after: float


@dataclass(frozen=True)
class Repaired:
    """What came of it.

    Args:
        recipe: with all that was kept; the ops in fp32 are the same.
        repairs: in the order of doing.
        left: ops with an error that is not finite; nothing was tried on them.
    """

    recipe: Recipe
    repairs: tuple[Repair, ...] = ()
    left: tuple[str, ...] = ()


def repairs_in(
    recipe: Recipe, found: Iterable[tuple[Recipe, Iterable[Repair]]]
) -> tuple[Repair, ...]:
    """Return what was repaired and is so in ``recipe``, op by op.

    Args:
        recipe: a choice.
        found: recipes that were repaired, each with what was done; of those that made of an op what
            ``recipe`` has, the last one counts.

    Example::

        repaired = repair(recipe, space, ranked, lambda recipe, ops: prepared.error(recipe, ops))
        repairs_in(repaired.recipe, [(repaired.recipe, repaired.repairs)])
    """
    chosen, kept = recipe.as_mapping(), dict[str, list[Repair]]()
    for repaired, repairs in found:
        mended, done = repaired.as_mapping(), dict[str, list[Repair]]()
        for one in repairs:
            if one.op in chosen and chosen[one.op] == mended.get(one.op):
                done.setdefault(one.op, []).append(one)
        kept |= done
    return tuple(one for each in kept.values() for one in each)


def repair(
    recipe: Recipe,
    space: Space,
    sensitivities: Sequence[Sensitivity],
    error_of: ErrorOf,
    allowed: Collection[str] = CORRECTIONS,
) -> Repaired:
    """Lower the error of the worst int8 ops of ``recipe`` by what hardly costs speed.

    One kind of repair after the other, each on the worst op first, and each kept only where the
    error is lower by more than ``MARGIN``: equalization of what the op reads; then the settings of
    its activation; then what is done to its weights. Later ones are measured with the earlier ones
    in force: what an equalized range needs is another setting than what the ruined one needed.

    A recipe in which nothing rounds as it was trained stays one: it is what there would be without
    a training.

    A tensor belongs to the op that reads it: the settings and the equalization of that op decide
    how it is held. So nothing but the worst ops themselves is changed for them.

    Args:
        recipe: to be repaired.
        space: what each op may be; ``Op.corrections`` says what may be done to it.
        sensitivities: of the int8 ops of ``recipe``.
        error_of: simulates; it is called some ten times for an op, with that op alone.
        allowed: corrections that may be taken; those that ``recipe`` has stay.

    Example::

        repaired = repair(recipe, space, ranked, lambda recipe, ops: prepared.error(recipe, ops))
        for one in repaired.repairs:
            print(f"{one.op}: {one.what}, {one.before:.2g} -> {one.after:.2g}")
    """
    worst = worst_of(sensitivities)
    bench = _Bench(recipe, space, error_of)
    for correction in CORRECTIONS:
        for op in worst:
            if correction in allowed:
                bench.correct(op, correction)
        for op in worst:
            if correction == EQUALIZATION:
                bench.choose_setting(op)
    left = tuple(one.op for one in sensitivities if not one.is_finite)
    return Repaired(bench.recipe, tuple(bench.repairs), left)


CLEARLY = 0.5
"""A training takes an equalization that leaves no more than this share of an error: dividing costs
a step where no kernel before it does that."""


def equalized(
    recipe: Recipe, space: Space, error_of: ErrorOf, *, always: bool = False
) -> tuple[Recipe, tuple[str, ...]]:
    """Return ``recipe`` with equalization for the ops that it helps clearly, and these.

    Args:
        recipe: what a training is to begin with.
        space: ``Op.corrections`` says which ops can be equalized.
        error_of: as for ``repair``; it is called twice for an op.
        always: whether it is asked for wherever it can be done.
    """
    found = []
    configs = recipe.as_mapping()
    for op in space.ops:
        now = configs[op.name]
        if now.is_fp32 or EQUALIZATION not in op.corrections or EQUALIZATION in now.corrections:
            continue
        other = recipe.with_configs({op.name: replace(now, corrections=(EQUALIZATION,))})
        if always or _halves(error_of(recipe, (op.name,)), error_of(other, (op.name,))):
            recipe = other
            found.append(op.name)
    return recipe, tuple(found)


def _halves(before: float, after: float) -> bool:
    return math.isfinite(before) and after < CLEARLY * before


def worst_of(sensitivities: Iterable[Sensitivity], share: float = SHARE) -> tuple[str, ...]:
    """Return the fewest ops that hold ``share`` of the finite damage, the worst one first."""
    ordered = sorted(
        (one for one in sensitivities if one.is_finite), key=lambda one: (-one.damage, one.op)
    )
    wanted = share * math.fsum(one.damage for one in ordered)
    found: list[str] = []
    held = 0.0
    for one in ordered:
        if held >= wanted:
            break
        found.append(one.op)
        held += one.damage
    return tuple(found)


class _Bench:
    """A recipe that is being repaired."""

    def __init__(self, recipe: Recipe, space: Space, error_of: ErrorOf) -> None:
        self.recipe = recipe
        self.repairs: list[Repair] = []
        self._ops = {op.name: op for op in space.ops}
        self._error_of = error_of
        self._is_trained = recipe.is_trained

    def correct(self, op: str, correction: str) -> None:
        """Try a correction of ``op``."""
        self._try(op, self._with_correction(op, correction))

    def choose_setting(self, op: str) -> None:
        """Try all settings of ``op`` that are left to it."""
        now = self._config(op)
        others = {
            _name(config): replace(config, corrections=_both(config, now))
            for config in self._ops[op].settings_of(now.rung)
            if (config.activation, config.weight) != (now.activation, now.weight)
            and (self._is_trained or not config.is_trained)
        }
        self._try(op, others)

    def _try(self, op: str, configs: Mapping[str, OpConfig]) -> None:
        """Keep the best of ``configs``, by what they are called, if it is good enough."""
        if not configs:
            return
        before = self._error_of(self.recipe, (op,))
        if not math.isfinite(before):
            return
        tried = {what: self.recipe.with_configs({op: one}) for what, one in configs.items()}
        errors = {what: self._error_of(recipe, (op,)) for what, recipe in tried.items()}
        best = min(errors, key=lambda what: (not math.isfinite(errors[what]), errors[what]))
        if errors[best] < before * (1 - MARGIN):
            self.recipe = tried[best]
            self.repairs.append(Repair(op, best, before, errors[best]))

    def _with_correction(self, op: str, correction: str) -> dict[str, OpConfig]:
        now = self._config(op)
        if correction not in self._ops[op].corrections or correction in now.corrections:
            return {}
        if correction == EQUALIZATION and now.is_trained:
            return {}  # its range is that of channels as they were trained
        return {correction: replace(now, corrections=(*now.corrections, correction))}

    def _config(self, op: str) -> OpConfig:
        return self.recipe.as_mapping()[op]


def _both(config: OpConfig, now: OpConfig) -> tuple[str, ...]:
    """Return the corrections of ``config`` and of what it takes the place of."""
    kept = [one for one in now.corrections if one != EQUALIZATION or not config.is_trained]
    return (*config.corrections, *kept)


def _name(config: OpConfig) -> str:
    """Return what a table calls the setting."""
    fields = (config.activation.scheme, config.activation.algorithm)
    return " ".join(one for one in fields if one)
