"""Basic: LPOT's order of trials, without its defects."""

from dataclasses import replace

from made_up import (
    FOUR,
    INT8,
    Damaged,
    int8,
    linear,
    proposals,
    search_for,
    space_of,
    tuned,
    verdict,
)

from lpot_lightning.recipe import FP32, Op
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.basic import search_basic
from lpot_lightning.tuning.strategies.table import STRATEGIES
from lpot_lightning.tuning.trial import Budget

BASIC = STRATEGIES["basic"]
DAMAGES = {"a": 0.04, "b": -0.002, "c": 0.03, "d": 0.001}


def fp32_of(recipes):
    return ["".join(recipe.fp32_ops) for recipe in recipes]


def proposed(damages, space=None, sign=1, **asked):
    model = Damaged(damages, higher_is_better=sign > 0)
    search = search_for(higher_is_better=sign > 0, **asked)

    def judge(recipe):
        return verdict(model(recipe).accuracy)

    return proposals(search_basic, space or space_of(damages), search, judge)


EXPECTED = [
    "",  # 1: the only setting
    *"dcba",  # 2: one at a time, the last first
    *("a", "ac", "acd", "abcd"),  # 3a: what helped most first, kept where it improves
    *("a", "ac", "acd", "abcd"),  # 3b: the same, all kept
]


def test_ops_fall_back_in_the_order_of_lpot():
    space = Space((*space_of("abcd").ops, linear("s", [INT8])))
    assert fp32_of(proposed({**DAMAGES, "s": 0.0}, space)) == EXPECTED


def test_a_metric_where_lower_is_better_takes_the_same_way():
    space = Space((*space_of("abcd").ops, linear("s", [INT8])))
    assert fp32_of(proposed({**DAMAGES, "s": 0.0}, space, sign=-1)) == EXPECTED


def test_a_negative_metric_takes_the_same_way():
    model = Damaged({**DAMAGES, "s": 0.0}, baseline=-5.0)
    space = Space((*space_of("abcd").ops, linear("s", [INT8])))
    search = search_for(baseline=-5.0)
    found = proposals(search_basic, space, search, lambda r: verdict(model(r).accuracy))
    assert fp32_of(found) == EXPECTED


def test_an_op_that_does_not_help_is_int8_again_in_the_greedy_pass_only():
    space = Space((*space_of("abc").ops, linear("s", [INT8])))
    found = fp32_of(proposed({"a": 0.01, "b": -0.01, "c": -0.02, "s": 0.0}, space))
    assert found == ["", "c", "b", "a", "a", "ab", "ac", "a", "ab", "abc"]


def test_all_in_fp32_is_the_baseline_and_not_tried():
    assert fp32_of(proposed({"a": 0.1, "b": 0.2})) == ["", "b", "a", "b", "b"]
    assert fp32_of(proposed({"a": 0.1})) == [""]


def test_an_op_that_cannot_be_fp32_is_left_out():
    space = Space((linear("a"), linear("s", [INT8]), linear("b"), linear("f", [FP32])))
    found = fp32_of(proposed({"a": 0.1, "s": 0.1, "b": 0.2}, space))
    assert found == ["f", "bf", "af", "bf", "abf", "bf", "abf"]


def test_settings_for_the_kinds_come_uniform_first():
    ops = (Op(name="conv", kind="Conv2d", configs=FOUR), Op(name="fc", kind="Linear", configs=FOUR))
    found = proposed({"conv": 0.0, "fc": 0.0}, Space(ops))
    pairs = [tuple(FOUR.index(config) for _, config in recipe.ops) for recipe in found]
    assert pairs[:4] == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert pairs[4:] == [(a, b) for a in range(4) for b in range(4) if a != b]


def test_an_op_without_the_setting_of_its_kind_gets_its_first():
    space = Space((linear("a", FOUR), linear("b", FOUR[2:]), linear("f", [FP32])))
    found = proposed({"a": 0.0, "b": 0.0}, space)[:4]
    assert [recipe.as_mapping()["b"] for recipe in found] == [FOUR[2], FOUR[2], FOUR[2], FOUR[3]]
    assert all(recipe.fp32_ops == ("f",) for recipe in found)


def test_the_fallback_starts_from_the_best_setting():
    space = Space((linear("a", (*FOUR, FP32)), linear("b", (*FOUR, FP32))))
    accuracies = {FOUR[0]: 0.5, FOUR[1]: 0.6, FOUR[2]: 0.7, FOUR[3]: 0.65}

    def judge(recipe):
        return verdict(min(accuracies.get(config, 0.6) for _, config in recipe.ops))

    found = proposals(search_basic, space, search_for(), judge)
    assert found[4].as_mapping() == {"a": FOUR[2], "b": FP32}


def test_it_goes_on_when_all_settings_fail():
    space = Space((*space_of("ab").ops, linear("s", [INT8])))

    def judge(recipe):
        return verdict(0.5 + 0.1 * len(recipe.fp32_ops) if "b" in recipe.fp32_ops else None)

    found = fp32_of(proposals(search_basic, space, search_for(), judge))
    assert found == ["", "b", "a", "b", "ab", "b", "ab"]


def test_a_repeated_recipe_costs_no_trial():
    space = Space((*space_of("abcd").ops, linear("s", [INT8])))
    model = Damaged({**DAMAGES, "s": 0.5})
    outcome = tuned(BASIC, space, model, search_for())
    assert fp32_of(model.tried) == ["", *"dcba", "ac", "acd", "abcd"]
    assert outcome.status == "not_met"


def test_a_large_model_starts_at_once():
    kinds = [
        Op(name=f"op{number}", kind=f"Kind{number}", configs=(*FOUR, FP32)) for number in range(40)
    ]
    model = Damaged({op.name: 0.1 for op in kinds})
    budget = Budget(max_trials=20)
    outcome = tuned(BASIC, Space(tuple(kinds)), model, search_for(), budget=budget)
    assert outcome.status == "budget_exhausted"


def test_what_lpot_did_not_have_is_tried_only_where_it_is_all_that_is_asked_for():
    kl, percentile = int8(algorithm="kl"), int8(algorithm="percentile")
    asked_for = linear("asked for", [percentile, FP32])
    recipes = proposed(
        {"a": 0.0, "asked for": 0.0}, Space((linear("a", [kl, percentile]), asked_for))
    )
    assert {recipe.as_mapping()["a"] for recipe in recipes} == {kl}
    assert recipes[0].as_mapping()["asked for"] == percentile


def test_ops_of_a_kind_share_a_setting_whatever_is_done_to_their_weights():
    corrected = [replace(one, corrections=("weight_correction",)) for one in FOUR]
    space = Space((linear("a", [*corrected, FP32]), linear("b", [*FOUR, FP32])))
    settings = [recipe.as_mapping() for recipe in proposed({"a": 0.0, "b": 0.0}, space)[:4]]
    assert settings == [{"a": one, "b": other} for one, other in zip(corrected, FOUR, strict=True)]
