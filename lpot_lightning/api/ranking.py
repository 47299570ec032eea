"""How much each op hurts and costs: measured once, kept in the history, shown as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from math import fsum

from lpot_lightning.api.objective import cost_shown_as, costs_of
from lpot_lightning.api.ranks import Ranks
from lpot_lightning.quantization.backend import Prepared
from lpot_lightning.recipe import Op, Recipe
from lpot_lightning.tuning.history import History
from lpot_lightning.tuning.sensitivity import Sensitivity

_SHOWN = 8


class Ranker:
    """Ranks the ops of recipes; what an earlier run measured is taken from the history.

    Args:
        prepared: calibrated.
        ops: what can be quantized.
        objective: what the costs count.
        history: where what is found goes.
        ranks: rank 0 decides for all.
        say: takes lines for people.
    """

    def __init__(
        self,
        prepared: Prepared,
        ops: Sequence[Op],
        objective: str,
        history: History,
        ranks: Ranks,
        say: Callable[[str], None],
    ) -> None:
        self._prepared, self._ops, self._objective = prepared, ops, objective
        self._history, self._ranks, self._say = history, ranks, say
        self.first: tuple[Sensitivity, ...] = ()

    @cached_property
    def costs(self) -> dict[str, float]:
        """What each op costs when it stays in fp32, in the unit of the objective."""
        known = self._history.finding("costs", "")
        if known is not None:
            return {str(op): float(cost) for op, cost in known["ops"].items()}
        measured = {}
        if self._objective != "modelsize":
            profile = self._ranks.together(self._prepared.profile)
            measured = dict(self._ranks.agreed(profile))
        costs = costs_of(self._ops, self._objective, measured)
        self._history.keep("costs", "", {"ops": costs})
        return costs

    def cost(self, recipe: Recipe) -> float:
        """Return what the fp32 ops of ``recipe`` cost."""
        return fsum(self.costs[op] for op in recipe.fp32_ops)

    def rank(self, recipe: Recipe) -> list[Sensitivity]:
        """Return for each int8 op of ``recipe`` how much it hurts alone, and what it costs."""
        known = self._history.finding("ranking", recipe.key)
        if known is not None:
            found = [Sensitivity.from_dict(one) for one in known["ops"]]
        else:
            found = self._measured(recipe)
            self._history.keep("ranking", recipe.key, {"ops": [one.to_dict() for one in found]})
        self.first = self.first or tuple(found)
        self._say("\n".join(table(found, self._objective)))
        return found

    def _measured(self, recipe: Recipe) -> list[Sensitivity]:
        costs = self.costs
        self._say(f"ranking {len(recipe.int8_ops)} ops by the error each causes alone")
        ranked = self._ranks.together(lambda: self._prepared.rank(recipe))
        return [Sensitivity(op, damage, costs[op]) for op, damage in self._ranks.agreed(ranked)]


def table(found: Sequence[Sensitivity], objective: str) -> list[str]:
    """Return the most harmful ops as lines for people, and those that cannot be measured."""
    finite = sorted((one for one in found if one.is_finite), key=lambda one: -one.damage)
    total = fsum(one.damage for one in finite) or 1.0
    shown, rest = finite[:_SHOWN], finite[_SHOWN:]
    width = max((len(one.op) for one in shown), default=0)
    lines = [f"  {'op':<{width}}  error of the output  share of all  in fp32 it costs"]
    lines += [
        f"  {one.op:<{width}}  {one.damage:>19.2e}  {one.damage / total:>12.1%}"
        f"  {cost_shown_as(one.cost, objective):>16}"
        for one in shown
    ]
    if rest:
        share = fsum(one.damage for one in rest) / total
        lines.append(f"  {f'and {len(rest)} more':<{width}}  {'':>19}  {share:>12.1%}")
    return lines + [f"  {one.op}: its error is not finite" for one in found if not one.is_finite]
