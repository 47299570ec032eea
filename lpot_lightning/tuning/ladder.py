"""The steps from int8 down to fp32, op by op, rung by rung."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lpot_lightning.recipe import FP32, Op, OpConfig, Recipe, Rung
from lpot_lightning.tuning.sensitivity import Sensitivity

Damages = Callable[[Recipe], Sequence[Sensitivity]]
Share = Callable[[str, OpConfig], float]
SHARE = 0.999
"""Of all damage: ops that hold no more than the rest of it have no rung between theirs and fp32:
to measure them costs forward passes, and none of them will be taken."""


@dataclass(frozen=True)
class Descent:
    """A step of one op.

    Args:
        op: its name.
        config: what it is after the step.
        place: how many steps of the op come before.
    """

    op: str
    config: OpConfig
    place: int


@dataclass(frozen=True)
class Ladder:
    """The steps that are worth to be taken.

    Args:
        steps: by name: that of the op for the step to fp32, else it tells the rung, too.
        sensitivities: of each step: how much damage it takes away, and what it costs.
    """

    steps: Mapping[str, Descent]
    sensitivities: tuple[Sensitivity, ...]

    @classmethod
    def of(cls, base: Recipe, ops: Iterable[Op], rank: Damages, share: Share) -> Ladder:
        """Return the steps of ``ops`` from what ``base`` makes of them.

        Damages of ops are taken to add up. Of each op the rungs are kept that lie on the lower
        convex hull of damage over cost: others are never part of the best choice, where both may be
        had in shares (Sinha and Zoltners, The multiple-choice knapsack problem, 1979). So a later
        step of an op never gains more for its cost than an earlier one.

        Args:
            base: a recipe.
            ops: that are not fp32 in it and may be.
            rank: how much each op of a recipe hurts that is not fp32.
            share: how much of what fp32 costs an op costs as something else.

        Example::

            ladder = Ladder.of(base, ops, rank, share)
            ladder.steps["net.fc"].config  # FP32
        """
        own = {op.name: op for op in ops}
        found = {one.op: one for one in rank(base) if one.op in own}
        lower = _lower(base, own, found, rank)
        steps: dict[str, Descent] = {}
        sensitivities = []
        for name in own:
            start = found.get(name, Sensitivity(name, 0.0))
            rungs = [(base.as_mapping()[name], start.damage), *lower.get(name, ()), (FP32, 0.0)]
            points = [(share(name, config), damage, config) for config, damage in rungs]
            for place, (config, saved, dearer) in enumerate(_hull(points)):
                key = name if config.is_fp32 else f"{name} as {_shown(config)}"
                steps[key] = Descent(name, config, place)
                sensitivities.append(Sensitivity(key, saved, start.cost * dearer))
        return cls(steps, tuple(sensitivities))


def _lower(
    base: Recipe, ops: Mapping[str, Op], found: Mapping[str, Sensitivity], rank: Damages
) -> dict[str, list[tuple[OpConfig, float]]]:
    """Return the rungs between those of ``base`` and fp32 with the damage of each, by op."""
    lower: dict[str, list[tuple[OpConfig, float]]] = {}
    below = {name: _below(ops[name], base.as_mapping()[name]) for name in _weighty(found)}
    others = [name for name, _ in base.ops]
    for place in range(max(map(len, below.values()), default=0)):
        asked = {name: configs[place] for name, configs in below.items() if place < len(configs)}
        for one in rank(base.with_fp32(others).with_configs(asked)):
            lower.setdefault(one.op, []).append((asked[one.op], one.damage))
    return lower


def _weighty(found: Mapping[str, Sensitivity]) -> Iterator[str]:
    """Yield the ops that hold the damage, and those whose damage is no number to count with."""
    ordered = sorted(found.values(), key=lambda one: (one.is_finite, -one.damage))
    left = math.fsum(one.damage for one in ordered if one.is_finite)
    rest = (1 - SHARE) * left
    for one in ordered:
        if left <= rest and one.is_finite:
            return
        yield one.op
        left -= one.damage if one.is_finite else 0.0


def _below(op: Op, now: OpConfig) -> list[OpConfig]:
    """Return the choices below ``now``: one of each rung, and weights in the smallest groups."""
    configs = [one for one in op.configs if not one.is_fp32 and one.rung is not Rung.STATIC]
    places = list(Rung)
    if now.rung is not Rung.STATIC:
        configs = [one for one in configs if places.index(one.rung) >= places.index(now.rung)]
    found = [one for one in _one_each(configs) if one != now]
    return sorted(found, key=lambda one: places.index(one.rung))


def _one_each(configs: Sequence[OpConfig]) -> Iterator[OpConfig]:
    grouped = [one for one in configs if _group_size(one) is not None]
    yield from {one.rung: one for one in reversed(configs) if one not in grouped}.values()
    if grouped:
        yield min(grouped, key=lambda one: _group_size(one) or 0)


def _group_size(config: OpConfig) -> int | None:
    return None if config.weight is None else config.weight.group_size


def _shown(config: OpConfig) -> str:
    size = _group_size(config)
    return config.rung.value + ("" if size is None else f" in groups of {size}")


Priced = tuple[float, float, OpConfig]
"""What a rung costs, the damage that it leaves, and what it is."""


def _hull(points: Sequence[Priced]) -> Iterator[tuple[OpConfig, float, float]]:
    """Yield the steps to rungs that are worth it: what each is, what it saves, what it costs.

    Args:
        points: the rung of now first, fp32 last.
    """
    now, *others = points
    while others:
        worth = [one for one in others if one[0] > now[0] and _is_less(one[1], now[1])]
        best = max(worth or others[-1:], key=lambda one: (_gain(now, one), one[0]))
        yield best[2], _saved(now[1], best[1]), max(best[0] - now[0], _LEAST)
        others = others[others.index(best) + 1 :]
        now = best


_LEAST = 1e-3


def _is_less(one: float, other: float) -> bool:
    return math.isfinite(one) and (not math.isfinite(other) or one < other)


def _saved(before: float, after: float) -> float:
    return before - after if math.isfinite(before) else before


def _gain(now: Priced, one: Priced) -> float:
    """Return what a step saves for its cost; of a damage that is no number the cheapest saves."""
    if not math.isfinite(now[1]):
        return -one[0]
    return (now[1] - one[1]) / max(one[0] - now[0], _LEAST)


USUAL = {
    Rung.STATIC: 0.0,
    Rung.DYNAMIC: 0.25,
    Rung.WEIGHT_ONLY: 0.9,
    Rung.BF16: 0.95,
    Rung.FP32: 1.0,
}
"""What a rung costs where nothing was measured, as a share of what fp32 costs: dynamic ranges are
looked for in each call; a weight alone in 8 bits is no faster, but smaller."""


def usual_share(_: str, config: OpConfig) -> float:
    """Return what an op costs on a rung as a share of what it costs in fp32, as it usually is.

    Groups cost a little more than rows: they have more scales.
    """
    size = _group_size(config)
    return USUAL[config.rung] + (0.0 if size is None else 1.0 / (1000 + size))


def most_steps(op: Op) -> int:
    """Return how many steps an op has at most."""
    return 1 + len(_below(op, op.configs[0]))
