"""What costs no speed, chosen by made-up errors."""

import math
from dataclasses import replace

import pytest
from made_up import FOUR, int8

from lpot_lightning.recipe import CORRECTIONS, FP32, Op, Recipe
from lpot_lightning.tuning.repair import repair, worst_of
from lpot_lightning.tuning.sensitivity import Sensitivity
from lpot_lightning.tuning.space import Space

EQUALIZE, WEIGHT, BIAS = CORRECTIONS


def chain(*names, configs=FOUR, corrections=CORRECTIONS):
    """Return ops of which each reads the one before; the first has nobody to equalize with."""
    ops = []
    for before, name in zip((None, *names), names, strict=False):
        own = corrections if before else tuple(one for one in corrections if one != EQUALIZE)
        reads = (before,) if before else ()
        ops.append(
            Op(name=name, kind="Conv2d", configs=(*configs, FP32), reads=reads, corrections=own)
        )
    return Space(tuple(ops))


class Errors:
    """An error of 1 an op, times what its algorithm, its scheme and its corrections make of it.

    An equalization works on both ends.
    """

    def __init__(self, **factors):
        self.factors = factors
        self.asked = []

    def __call__(self, recipe, ops):
        self.asked.append(tuple(ops))
        return sum(self.of(recipe.as_mapping(), op) for op in ops)

    def of(self, configs, op):
        found = 1.0
        readers = {"a": "b", "b": "c"}
        words = [configs[op].activation.algorithm, configs[op].activation.scheme]
        words += configs[op].corrections
        if EQUALIZE in getattr(configs.get(readers.get(op)), "corrections", ()):
            words.append(EQUALIZE)
        for word in words:
            found *= self.factors.get(word, 1.0)
        return found


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


def test_two_ops_are_equalized_once_and_measured_together():
    errors = Errors(**{EQUALIZE: 0.1})
    found = repaired(chain("a", "b"), errors)
    (done,) = found.repairs
    assert (done.op, done.what, done.before, done.after) == ("b", EQUALIZE, 2.0, 0.2)
    assert {ops for ops in errors.asked if len(ops) > 1} == {("a", "b")}


def test_the_one_before_alone_among_the_worst_is_equalized_with_its_reader():
    found = repaired(chain("a", "b"), Errors(**{EQUALIZE: 0.1}), damages={"a": 1.0, "b": 1e-9})
    assert [(done.op, done.what) for done in found.repairs] == [("b", EQUALIZE)]


def test_ops_are_not_equalized_with_one_in_fp32():
    space = chain("a", "b")
    start = space.all_int8().with_fp32(["a"])
    assert repaired(space, Errors(**{EQUALIZE: 0.1}), start=start).repairs == ()


def test_settings_are_chosen_with_the_equalization_in_force():
    class Ruined(Errors):
        def of(self, configs, op):
            equalized = EQUALIZE in configs["b"].corrections
            return super().of(configs, op) * (0.01 if equalized else 1) * (
                1 if equalized or configs[op].activation.algorithm == "kl" else 0.5
            )  # fmt: skip

    found = repaired(chain("a", "b"), Ruined())
    assert [done.what for done in found.repairs] == [EQUALIZE]


def test_the_settings_of_an_op_that_a_bad_one_reads_are_tried_too():
    found = repaired(chain("a", "b"), Errors(minmax=0.5), (), damages={"a": 1e-9, "b": 1.0})
    assert [(done.op, done.what) for done in found.repairs] == [
        ("b", "asym minmax"),
        ("a", "asym minmax"),
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


def test_what_is_ruined_beyond_measure_is_not_tried_though_a_bad_one_reads_it():
    space = chain("a", "b")
    start = space.all_int8()
    found = repair(
        start,
        space,
        [Sensitivity("a", math.inf), Sensitivity("b", 1.0)],
        lambda recipe, ops: math.inf if "a" in ops and recipe == start else 1.0,
    )
    assert found.recipe == start
    assert found.left == ("a",)
