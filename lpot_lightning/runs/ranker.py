"""How much each op hurts and costs, and what mends it: measured once, kept, shown."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from functools import cached_property
from math import fsum
from time import monotonic

from lpot_lightning.conf.schema import RecipesConf
from lpot_lightning.machine.columns import aligned, terminal_width
from lpot_lightning.recipe import CORRECTIONS, FP32, OpConfig, Recipe, Rung
from lpot_lightning.runs.causes.hurt import find_causes
from lpot_lightning.runs.job import Job
from lpot_lightning.runs.objective import cost_shown_as, costs_of, share_of_bytes
from lpot_lightning.tuning.causes import OUTPUT_ERROR, Cause
from lpot_lightning.tuning.history import History
from lpot_lightning.tuning.ladder import usual_share
from lpot_lightning.tuning.repair import Repair, repair, repairs_in
from lpot_lightning.tuning.sensitivity import Sensitivity
from lpot_lightning.tuning.space import Space

_SHOWN = 8
_SHARES = (0.1, 0.25, 0.5, 0.75, 0.95)


class Ranker:
    """Ranks and repairs recipes without a trial; what an earlier run found is taken up.

    Args:
        job: its model is calibrated.
        space: what each op may be.
        history: where what is found goes.

    Attributes:
        first: the first ranking, of all ops in int8; empty where nothing was ranked.
        causes: why the worst ops of that hurt, by their names.
    """

    def __init__(self, job: Job, space: Space, history: History) -> None:
        self._job, self._space, self._history = job, space, history
        self._ops = {op.name: op for op in space.ops}
        self._found: list[tuple[Recipe, tuple[Repair, ...]]] = []
        self.first: tuple[Sensitivity, ...] = ()
        self.causes: dict[str, Cause] = {}
        self._rankings: dict[bool, tuple[Sensitivity, ...]] = {}

    @cached_property
    def costs(self) -> dict[str, float]:
        """What each op costs when it stays in fp32, in the unit of the objective."""
        known = self._history.finding("costs", "")
        if known is not None and set(known["ops"]) >= set(self._ops):
            return {op: float(cost) for op, cost in known["ops"].items()}
        job, measured = self._job, {}
        if self._objective != "modelsize":
            profile = job.ranks.together(job.prepared.profile)
            measured = dict(job.ranks.agreed(profile))
        costs = costs_of(self._space.ops, self._objective, measured)
        self._history.keep("costs", "", {"ops": costs})
        return costs

    @property
    def _objective(self) -> str:
        return self._job.conf.tuning.objective

    def cost(self, recipe: Recipe) -> float:
        """Return what the ops of ``recipe`` cost that are not as fast, or as small, as can be."""
        return fsum(self.costs[op] * self.share(op, config) for op, config in recipe.ops)

    def share(self, op: str, config: OpConfig) -> float:
        """Return how much of what ``op`` costs in fp32 it costs as ``config`` has it."""
        if self._objective == "modelsize":
            return share_of_bytes(config)
        first = self._ops[op].configs[0]
        measured = self._objective == "performance" and config.rung in (Rung.DYNAMIC, Rung.BF16)
        if not measured or first.rung is not Rung.STATIC:
            return usual_share(op, config)
        key = f"{op} as {config.rung.value}"
        known = self._history.finding("share", key)
        if known is None:
            known = {"share": self._share_of_seconds(op, first, config)}
            self._history.keep("share", key, known)
        return float(known["share"])

    def _share_of_seconds(self, op: str, first: OpConfig, config: OpConfig) -> float:
        """Return how far from static int8 to fp32 the seconds of an op are, in rough steps.

        Noise shall seldom change an order.
        """
        job = self._job
        asked = [Recipe.of({op: one}) for one in (first, config, FP32)]
        found = job.ranks.together(lambda: [job.prepared.profile(one) for one in asked])
        static, own, fp32 = (
            one[op].seconds if op in one else 0.0 for one in job.ranks.agreed(found)
        )
        if static >= fp32:
            return usual_share(op, config)
        exact = (own - static) / (fp32 - static)
        return min(_SHARES, key=lambda one: abs(one - exact))

    def rank(self, recipe: Recipe) -> list[Sensitivity]:
        """Return for each int8 op of ``recipe`` how much it hurts alone, and what it costs."""
        known = self._history.finding("ranking", recipe.key)
        if known is not None and {one["op"] for one in known["ops"]} <= set(recipe.int8_ops):
            found = [Sensitivity.from_dict(one) for one in known["ops"]]
        else:
            found = self._measured(recipe)
            self._history.keep("ranking", recipe.key, {"ops": [one.to_dict() for one in found]})
        self._rankings.setdefault(recipe.is_trained, tuple(found))
        if not self.first:
            self.first = tuple(found)
            self._job.listener.say("\n".join(table(found, self._objective)))
            self._look_for_causes(recipe)
        return found

    def sensitivities_of(self, recipe: Recipe) -> tuple[Sensitivity, ...]:
        """Return the first ranking of a recipe that rounds as this one: as trained, or not."""
        return self._rankings.get(recipe.is_trained, ())

    def causes_of(self, recipe: Recipe) -> dict[str, Cause]:
        """Return why ops hurt, if they were looked at in a recipe that rounds as this one."""
        return self.causes if [*self._rankings][:1] == [recipe.is_trained] else {}

    def _look_for_causes(self, recipe: Recipe) -> None:
        before, started = self._job.prepared.forwards, monotonic()
        is_known = self._history.finding("causes", recipe.key) is not None
        self.causes = find_causes(self._job, self._history, recipe, self.first)
        if not is_known:
            self._job.listener.say(f"looked for why ops hurt, in {self._spent(before, started)}")
        for op, one in self.causes.items():
            self._job.listener.say(f"  {op}: {one.told}")

    def _measured(self, recipe: Recipe) -> list[Sensitivity]:
        job, costs = self._job, self.costs
        before, started = job.prepared.forwards, monotonic()
        ranked = job.ranks.together(lambda: job.prepared.rank(recipe))
        found = [Sensitivity(op, damage, costs[op]) for op, damage in job.ranks.agreed(ranked)]
        spent = self._spent(before, started)
        job.listener.say(f"ranked {len(found)} ops by the error each causes alone, in {spent}")
        return found

    def _spent(self, forwards: float, started: float) -> str:
        passes = self._job.prepared.forwards - forwards
        return f"{passes:.1f} forward passes of one batch, {monotonic() - started:.1f} s"

    def repair(self, recipe: Recipe, sensitivities: Sequence[Sensitivity]) -> Recipe:
        """Return ``recipe`` with what lowers the errors of its worst ops and costs no speed."""
        known = self._history.finding("repair", recipe.key)
        if known is not None and set(known["repaired"]) == set(recipe.as_mapping()):
            repaired = Recipe.from_dict(known["repaired"])
            repairs = tuple(Repair(**one) for one in known["repairs"])
        else:
            repaired, repairs = self._mended(recipe, sensitivities)
            content = {
                "repaired": repaired.to_dict(),
                "repairs": [asdict(one) for one in repairs],
            }
            self._history.keep("repair", recipe.key, content)
        self._found.append((repaired, repairs))
        if repairs:
            self._job.listener.say("\n".join(repair_table(repairs)))
        return repaired

    def _mended(
        self, recipe: Recipe, sensitivities: Sequence[Sensitivity]
    ) -> tuple[Recipe, tuple[Repair, ...]]:
        job, started = self._job, monotonic()
        before = job.prepared.forwards
        allowed = allowed_by(job.conf.quantization.recipes)
        found = repair(recipe, self._space, sensitivities, self._error, allowed)
        count = len(found.repairs)
        job.listener.say(f"found {count or 'nothing'} to repair, in {self._spent(before, started)}")
        return found.recipe, found.repairs

    def _error(self, recipe: Recipe, ops: Collection[str]) -> float:
        """Return what rank 0 measured; the others wait no longer than for one measurement."""
        job = self._job
        return job.ranks.agreed(job.ranks.together(lambda: job.prepared.error(recipe, ops)))

    def repairs_of(self, recipe: Recipe) -> tuple[Repair, ...]:
        """Return what was repaired and is so in ``recipe``."""
        return repairs_in(recipe, self._found)


def allowed_by(recipes: RecipesConf) -> tuple[str, ...]:
    """Return the corrections that may be taken: those that ``quantization.recipes`` forbids not."""
    return tuple(one for one in CORRECTIONS if getattr(recipes, one, None) is not False)


def asked_by(recipes: RecipesConf) -> tuple[str, ...]:
    """Return the corrections that ``quantization.recipes`` asks for."""
    return tuple(one for one in CORRECTIONS if getattr(recipes, one, None))


def table(found: Sequence[Sensitivity], objective: str) -> list[str]:
    """Return the most harmful ops as lines for people, and those that cannot be measured."""
    finite = sorted((one for one in found if one.is_finite), key=lambda one: -one.damage)
    total = fsum(one.damage for one in finite) or 1.0
    shown, rest = finite[:_SHOWN], finite[_SHOWN:]
    rows = [("op", OUTPUT_ERROR, "share of all", "in fp32 it costs")]
    rows += [
        (
            one.op,
            f"{one.damage:.2e}",
            f"{one.damage / total:.1%}",
            cost_shown_as(one.cost, objective),
        )
        for one in shown
    ]
    if rest:
        share = fsum(one.damage for one in rest) / total
        rows.append((f"and {len(rest)} more", "", f"{share:.1%}", ""))
    unknown = [f"{one.op}: its error is not finite" for one in found if not one.is_finite]
    table = aligned(rows, right=(1, 2, 3), width=terminal_width() - 2)
    return [f"  {line}" for line in (*table.split("\n"), *unknown)]


def repair_table(repairs: Sequence[Repair]) -> list[str]:
    """Return what was repaired as lines for people."""
    rows = [("op", "repaired by", OUTPUT_ERROR)]
    rows += [(one.op, one.what, f"{one.before:.2e} -> {one.after:.2e}") for one in repairs]
    return [f"  {line}" for line in aligned(rows, width=terminal_width() - 2).split("\n")]
