"""The steps down to fp32, and that the search takes those that are needed."""

import math
from dataclasses import replace

import pytest
from made_up import INT8, proposals, search_for, verdict

from lpot_lightning.quantization.capability import DYNAMIC, WEIGHT_ONLY
from lpot_lightning.recipe import FP32, Op, Recipe, Rung
from lpot_lightning.tuning.ladder import Ladder, most_steps, usual_share
from lpot_lightning.tuning.sensitivity import Sensitivity
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.auto import search_auto
from lpot_lightning.tuning.strategies.strategy import SearchContext

ALL = (INT8, DYNAMIC, *WEIGHT_ONLY, FP32)
STATIC, BY_ROWS, KEPT = Rung.STATIC, Rung.DYNAMIC, Rung.WEIGHT_ONLY


def op(name, configs=ALL):
    return Op(name=name, kind="Linear", configs=configs)


class Hurt:
    """Says how much ops hurt, each by rung."""

    def __init__(self, **damages):
        self.damages, self.ranked = damages, []

    def of(self, name, config):
        return 0.0 if config.is_fp32 else self.damages[name].get(config.rung, 0.0)

    def rank(self, recipe):
        self.ranked.append(recipe.reduced_ops)
        configs = recipe.as_mapping()
        return [Sensitivity(name, self.of(name, configs[name])) for name in recipe.reduced_ops]

    def sum(self, recipe):
        return math.fsum(self.of(name, config) for name, config in recipe.ops)


def ladder(hurt, ops):
    base = Recipe.of({one.name: one.configs[0] for one in ops})
    return Ladder.of(base, ops, hurt.rank, usual_share)


def steps(found):
    return [(one.op, str(one.config.rung.value)) for one in found.steps.values()]


def test_each_rung_that_saves_is_a_step():
    hurt = Hurt(a={STATIC: 1.0, BY_ROWS: 0.1, KEPT: 0.01})
    found = ladder(hurt, [op("a")])
    assert steps(found) == [("a", "dynamic int8"), ("a", "weight-only int8"), ("a", "fp32")]
    saved = [one.damage for one in found.sensitivities]
    assert saved == pytest.approx([0.9, 0.09, 0.01])
    assert [one.cost for one in found.sensitivities] == pytest.approx([0.25, 0.65, 0.1])


def test_a_rung_that_is_dearer_than_what_it_saves_is_left_out():
    hurt = Hurt(a={STATIC: 1.0, BY_ROWS: 0.99, KEPT: 0.0})
    assert steps(ladder(hurt, [op("a")])) == [("a", "weight-only int8"), ("a", "fp32")]


def test_a_damage_out_of_measure_is_left_by_the_cheapest_rung_that_has_one():
    hurt = Hurt(a={STATIC: math.nan, BY_ROWS: math.inf, KEPT: 0.2})
    found = ladder(hurt, [op("a")])
    assert steps(found) == [("a", "weight-only int8"), ("a", "fp32")]
    assert math.isnan(found.sensitivities[0].damage)


def test_ops_that_hardly_hurt_are_not_measured_on_other_rungs():
    hurt = Hurt(a={STATIC: 1.0}, b={STATIC: 1e-5})
    found = ladder(hurt, [op("a"), op("b")])
    assert [step for step in steps(found) if step[0] == "b"] == [("b", "fp32")]
    assert hurt.ranked[1:] == [("a",)] * 3


def test_an_op_with_one_rung_has_one_step():
    found = ladder(Hurt(a={STATIC: 1.0}), [op("a", (INT8, FP32))])
    assert list(found.steps) == ["a"]


def test_how_many_steps_an_op_has_at_most():
    assert [most_steps(op("a", configs)) for configs in (ALL, (INT8, FP32), (FP32,))] == [4, 1, 1]


RIGHT = {"a": STATIC, "b": BY_ROWS, "c": KEPT, "d": Rung.FP32}
RUNGS = list(Rung)


def one_op_per_rung(harm=0.3, rest=1e-5):
    """Return a net of which each op is fine on its own rung, and on those below it."""
    places = {name: RUNGS.index(right) for name, right in RIGHT.items()}
    damages = {
        name: {rung: harm if place < right else rest for place, rung in enumerate(RUNGS[:-1])}
        for name, right in places.items()
    }
    return Hurt(**damages)


@pytest.mark.parametrize("harm", [0.15, 0.3, 2.0, 20.0])
def test_each_op_comes_to_its_own_rung_in_four_trials(harm):
    hurt = one_op_per_rung(harm)
    search = SearchContext(rank=hurt.rank, criterion=search_for().criterion, baseline=0.9)

    def judge(recipe):
        drop = hurt.sum(recipe) / 10
        return verdict(0.9 - drop, accepted=drop <= 0.01)

    found = proposals(search_auto, Space(tuple(map(op, RIGHT))), search, judge)
    met = [one for one in found if hurt.sum(one) / 10 <= 0.01]
    best = min(met, key=lambda one: sum(usual_share(name, config) for name, config in one.ops))
    assert {name: config.rung for name, config in best.ops} == RIGHT
    assert found.index(best) < 4
    assert len(found) <= 4


def test_a_net_whose_activations_do_not_survive_ends_on_the_rung_that_holds():
    hurt = Hurt(**{name: {STATIC: 1.0, BY_ROWS: 1e-5, KEPT: 1e-5} for name in "abcdef"})
    search = SearchContext(rank=hurt.rank, criterion=search_for().criterion, baseline=0.9)

    def judge(recipe):
        return verdict(0.9 - hurt.sum(recipe), accepted=hurt.sum(recipe) <= 0.01)

    found = proposals(search_auto, Space(tuple(map(op, "abcdef"))), search, judge)
    met = [one for one in found if hurt.sum(one) <= 0.01]
    assert [one.on(Rung.DYNAMIC) for one in met] == [tuple("abcdef")]
    assert len(found) <= 4


@pytest.mark.parametrize("trained", [False, True])
def test_where_nothing_pays_weights_alone_are_kept_but_for_what_was_trained(trained):
    first = replace(INT8, activation=replace(INT8.activation, algorithm="trained"))
    ops = (op("a", (first, *ALL) if trained else ALL), op("b", (INT8, FP32)))
    search = SearchContext(
        rank=Hurt(a={}, b={}).rank, criterion=search_for().criterion, baseline=0.9, none_pays=True
    )
    tried, *_ = proposals(search_auto, Space(ops), search, lambda _: verdict(0.9, accepted=True))
    assert tried.as_mapping()["a"].rung is (STATIC if trained else KEPT)
    assert tried.as_mapping()["b"].rung is STATIC
