"""What hardly costs speed, chosen by made-up errors."""

import math
from dataclasses import replace

import pytest
from made_up import FOUR, int8

from lpot_lightning.recipe import CORRECTIONS, FP32, Op, Recipe
from lpot_lightning.tuning.repair import equalized, repair, worst_of
from lpot_lightning.tuning.sensitivity import Sensitivity
from lpot_lightning.tuning.space import Space

EQUALIZE, WEIGHT, BIAS = CORRECTIONS


def chain(*names, configs=FOUR, corrections=CORRECTIONS):
    """Return ops one after the other."""
    return Space(
        tuple(
            Op(name=name, kind="Conv2d", configs=(*configs, FP32), corrections=corrections)
            for name in names
        )
    )


class Errors:
    """An error of 1 an op, times what its algorithm, its scheme and its corrections make of it."""

    def __init__(self, **factors):
        self.factors = factors
        self.asked = []

    def __call__(self, recipe, ops):
        self.asked.append(tuple(ops))
        return sum(self.of(recipe.as_mapping(), op) for op in ops)

    def of(self, configs, op):
        config = configs[op]
        words = config.activation.algorithm, config.activation.scheme, *config.corrections
        return math.prod(self.factors.get(word, 1.0) for word in words)


def repaired(space, errors, allowed=CORRECTIONS, start=None, damages=None):
    start = start or space.all_int8()
    damages = damages or dict.fromkeys(start.int8_ops, 1.0)
    ranked = [Sensitivity(op, damage) for op, damage in damages.items()]
    return repair(start, space, ranked, errors, allowed)


def test_the_worst_ops_are_the_fewest_that_hold_the_damage():
    ranked = [Sensitivity(op, d) for op, d in {"a": 0.01, "b": 5.0, "c": 4.0, "d": 0.001}.items()]
    assert worst_of(ranked) == ("b", "c")
    assert worst_of(ranked, share=1.0) == ("b", "c", "a", "d")
    assert worst_of([]) == ()


def test_without_damage_nothing_is_done():
    errors = Errors(minmax=0.1)
    found = repaired(chain("a", "b"), errors, damages={"a": 0.0, "b": 0.0})
    assert found.recipe == chain("a", "b").all_int8()
    assert errors.asked == []


def test_the_best_setting_is_kept():
    found = repaired(chain("a"), Errors(minmax=0.5, sym=0.5), allowed=())
    assert found.recipe == Recipe.of({"a": int8("sym", "minmax")})
    (done,) = found.repairs
    assert (done.op, done.what, done.before, done.after) == ("a", "sym minmax", 1.0, 0.25)


@pytest.mark.parametrize(("factor", "kept"), [(0.96, 0), (0.94, 1)])
def test_what_hardly_helps_is_not_kept(factor, kept):
    assert len(repaired(chain("a"), Errors(minmax=factor), allowed=()).repairs) == kept


@pytest.mark.parametrize("correction", [WEIGHT, BIAS])
def test_a_correction_is_kept_where_it_helps(correction):
    config = repaired(chain("a"), Errors(**{correction: 0.5})).recipe.as_mapping()["a"]
    assert config.corrections == (correction,)


def test_a_correction_that_hurts_is_not_kept():
    assert repaired(chain("a"), Errors(**{WEIGHT: 2.0, BIAS: 1.0})).repairs == ()


def test_an_op_gets_no_correction_that_it_cannot_have():
    found = repaired(chain("a", corrections=(WEIGHT,)), Errors(**{BIAS: 0.1}))
    assert found.repairs == ()


def test_a_forbidden_correction_is_not_tried():
    found = repaired(chain("a", "b"), Errors(**{BIAS: 0.1, WEIGHT: 0.5, EQUALIZE: 0.1}), (WEIGHT,))
    assert {done.what for done in found.repairs} == {WEIGHT}


def test_each_op_is_measured_alone():
    errors = Errors(**{EQUALIZE: 0.1})
    found = repaired(chain("a", "b"), errors)
    done = [(one.op, one.what, one.before, one.after) for one in found.repairs]
    assert done == [("a", EQUALIZE, 1.0, 0.1), ("b", EQUALIZE, 1.0, 0.1)]
    assert set(errors.asked) == {("a",), ("b",)}


def test_an_op_in_fp32_is_not_touched():
    space = chain("a", "b")
    start = space.all_int8().with_fp32(["a"])
    found = repaired(space, Errors(**{EQUALIZE: 0.1}), start=start)
    assert {done.op for done in found.repairs} == {"b"}


def test_settings_are_chosen_with_the_equalization_in_force():
    class Ruined(Errors):
        def of(self, configs, op):
            equalized = EQUALIZE in configs[op].corrections
            return super().of(configs, op) * (0.01 if equalized else 1) * (
                1 if equalized or configs[op].activation.algorithm == "kl" else 0.5
            )  # fmt: skip

    found = repaired(chain("a"), Ruined())
    assert [done.what for done in found.repairs] == [EQUALIZE]


def test_only_the_worst_are_changed():
    found = repaired(
        chain("a", "b"), Errors(minmax=0.5, **{EQUALIZE: 0.5}), damages={"a": 1e-9, "b": 1.0}
    )
    assert [(done.op, done.what) for done in found.repairs] == [
        ("b", EQUALIZE),
        ("b", "asym minmax"),
    ]


def test_corrections_that_are_there_stay_with_another_setting():
    space = chain("a", configs=tuple(replace(one, corrections=(BIAS,)) for one in FOUR))
    found = repaired(space, Errors(minmax=0.5, **{WEIGHT: 0.5}))
    assert found.recipe.as_mapping()["a"] == replace(FOUR[1], corrections=(WEIGHT, BIAS))


def test_an_error_that_is_not_finite_is_named_and_left():
    errors = Errors(minmax=0.5)
    found = repaired(chain("a", "b"), errors, (), damages={"a": float("nan"), "b": 1.0})
    assert found.left == ("a",)
    assert "b" in {done.op for done in found.repairs}


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_setting_that_breaks_the_op_is_not_kept(broken):
    found = repaired(chain("a"), Errors(minmax=broken, sym=0.5), ())
    assert found.recipe.as_mapping()["a"] == int8("sym", "kl")


def test_an_error_that_is_not_finite_is_not_measured_against():
    space = chain("a")
    ranked = [Sensitivity("a", 1.0)]
    found = repair(space.all_int8(), space, ranked, lambda recipe, ops: math.inf)
    assert found.recipe == space.all_int8()


def trained_op(*corrections):
    trained = int8("asym", "trained")
    return Op(
        name="op",
        kind="Linear",
        configs=(replace(trained, corrections=corrections), int8("asym", "kl"), FP32),
        corrections=CORRECTIONS,
    )


def test_what_was_trained_is_not_equalized_after_the_training():
    """Its range is that of channels as they were trained."""
    space = Space((trained_op(),))

    def error(recipe, _):
        return 1.0 / (1 + len(recipe.as_mapping()["op"].corrections))

    found = repair(space.all_int8(), space, [Sensitivity("op", 1.0)], error)
    config = found.recipe.as_mapping()["op"]
    assert not (config.is_trained and EQUALIZE in config.corrections)


@pytest.mark.parametrize("as_trained", [True, False])
def test_a_recipe_of_no_training_stays_one(as_trained):
    space = Space((trained_op(), replace(trained_op(), name="other")))
    recipe = space.calibrated()
    if as_trained:
        recipe = recipe.with_configs({"other": space.all_int8().as_mapping()["other"]})

    def error(recipe, _):
        return 0.1 if recipe.as_mapping()["op"].is_trained else 1.0

    found = repair(recipe, space, [Sensitivity("op", 1.0)], error, ())
    assert found.recipe.as_mapping()["op"].is_trained == as_trained


def test_a_training_begins_with_the_equalization_that_halves_an_error():
    space = Space((trained_op(), replace(trained_op(), name="other")))

    def error(recipe, ops):
        evened = any(recipe.as_mapping()[op].corrections for op in ops)
        return {"op": 0.4, "other": 0.6}[ops[0]] if evened else 1.0

    recipe, found = equalized(space.all_int8(), space, error)
    assert found == ("op",)
    assert recipe.as_mapping()["op"].corrections == (EQUALIZE,)
    assert recipe.as_mapping()["op"].is_trained
    assert equalized(space.all_int8(), space, error, always=True)[1] == ("op", "other")
