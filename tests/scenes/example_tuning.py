"""What examples of the search take for granted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from example_inside import Inside
from made_up import INT8, Damaged, linear, met, search_for, space_of, verdict
from made_up_pass import MadeUpPass, curve_of
from users_yamls import PTQ

from lpot_lightning.conf.reader import read_conf
from lpot_lightning.recipe import Op, OpConfig, Recipe
from lpot_lightning.tuning.score import Criterion, Score
from lpot_lightning.tuning.sensitivity import Sensitivity
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.bracket import Bracket
from lpot_lightning.tuning.strategies.prefixes import Prefixes
from lpot_lightning.tuning.strategies.ranking import Ranking
from lpot_lightning.tuning.trial import Trial

DAMAGES = {"net.conv1": 0.002, "net.conv2": 0.001, "net.fc": 0.02}


class Tuning(Inside):
    """Three ops, of which one hurts."""

    def make_ops(self) -> list[Op]:
        return [linear(name) for name in DAMAGES]

    def make_space(self) -> Space:
        return Space(tuple(self.make_ops()))

    def make_search(self) -> Any:
        return search_for(DAMAGES)

    def make_recipe(self) -> Recipe:
        return self.make_space().all_int8()

    make_base = make_recipe

    def make_int8(self) -> Any:
        return INT8

    def make_stays_fp32(self) -> Any:
        wish = dict.fromkeys(("weight", "activation"), {"dtype": ["fp32"]})
        read = read_conf(yaml.safe_load(PTQ) | {"quantization": {"op_wise": {"net.fc": wish}}})
        return read.quantization.op_wise[0][1]

    def make_score(self) -> Score:
        return verdict(0.8)

    def make_accuracy_of(self) -> Callable[[Recipe], float]:
        return lambda recipe: Damaged(DAMAGES)(recipe).accuracy or 0.0

    def make_criterion(self) -> Criterion:
        return Criterion(0.01, relative=True, higher_is_better=True)

    def make_trials(self) -> list[Trial]:
        return [Trial(1, self.make_recipe(), Score.of(0.9, seconds=1.0))]

    def make_ranked(self) -> list[Sensitivity]:
        return [Sensitivity(name, damage) for name, damage in DAMAGES.items()]

    def make_rank(self) -> Callable[[Recipe], Sequence[Sensitivity]]:
        return search_for(DAMAGES).rank

    def make_share(self) -> Callable[[str, OpConfig], float]:
        return lambda name, config: 1.0 if config.is_fp32 else 0.5

    def make_error_of(self) -> Callable[..., dict[str, float]]:
        return lambda recipe, ops: {op: 0.01 for op in ops}

    def make_workspace(self) -> Path:
        return Path()

    def make_curve(self) -> Any:
        return curve_of([1.0] * 20)

    def make_partial(self) -> Any:
        return [one.partial() for one in MadeUpPass([0.25] * 10)][-1]

    def make_bracket(self) -> Bracket:
        names = [f"net.{number}" for number in range(16)]
        ranking = Ranking.of([Sensitivity(name, 0.01) for name in names], among=names)
        prefixes = Prefixes(space_of(names).all_int8(), ranking)
        bracket = Bracket(prefixes=prefixes, search=search_for())
        bracket.tell(0, verdict(0.8))
        return bracket

    def make_closed(self) -> Bracket:
        bracket = self.make_bracket()
        bracket.tell(8, met(verdict(0.9)))
        bracket.too_few = 7
        return bracket
