"""What is given back, and when nothing is."""

import math

from made_up import search_for, space_of, verdict

from lpot_lightning.tuning.sensitivity import Sensitivity
from lpot_lightning.tuning.strategies.bracket import Bracket
from lpot_lightning.tuning.strategies.give_back import give_back
from lpot_lightning.tuning.strategies.prefixes import Prefixes
from lpot_lightning.tuning.strategies.ranking import Ranking


def found(drops, damages, *, enough, costs=None, space=None, goal=0.01):
    """Return what is known when these sizes had these drops."""
    space = space or space_of(damages)
    told = [Sensitivity(op, value, (costs or {}).get(op, 1.0)) for op, value in damages.items()]
    prefixes = Prefixes(space.all_int8(), Ranking.of(told, among=list(damages)))
    bracket = Bracket(prefixes=prefixes, search=search_for(goal=goal, baseline=1.0))
    for size, drop in drops.items():
        bracket.tell(size, verdict(None if drop is None else 1 - drop, accepted=size >= enough))
    bracket.too_few, bracket.enough = enough - 1, enough
    return bracket


def given_back(bracket, *answers):
    """Return the recipes that are tried, given drops, each with whether it is fine."""
    trials, told = give_back(bracket), iter(answers)
    tried = []
    recipe = next(trials, None)
    while recipe is not None:
        tried.append("".join(recipe.fp32_ops))
        drop, accepted = next(told)
        try:
            recipe = trials.send(verdict(None if drop is None else 1 - drop, accepted))
        except StopIteration:
            recipe = None
    return tried


EIGHT = {op: 8.0 - 0.1 * place for place, op in enumerate("abcdefgh")}


def test_a_stretch_that_was_not_needed_is_given_back_in_one_trial():
    bracket = found({0: 0.5, 1: 0.02, 4: 0.019, 5: 0.005}, EIGHT, enough=5)
    assert given_back(bracket, (0.006, True)) == ["ae"]


def test_ops_that_are_all_needed_cost_no_trial():
    assert given_back(found({0: 0.5, 4: 0.1, 5: 0.009}, EIGHT, enough=5)) == []


def test_a_model_that_is_ruined_says_nothing_of_the_ops_that_ruin_it_too():
    ruined = {0: 0.8, 3: 0.8, 4: 0.001}
    assert given_back(found(ruined, EIGHT, enough=4)) == []
    bad = {0: 0.09, 3: 0.09, 4: 0.001}
    assert given_back(found(bad, EIGHT, enough=4), (0.002, True)) == ["d"]


def test_what_wins_most_cost_for_its_drop_comes_first():
    damages = {"a": 80.0, "b": 5.0, "c": 4.0, "d": 3.0, "e": 0.1}
    costs = {"b": 0.5, "c": 3.0, "d": 3.0}  # a drop of 0.005, 0.004 and 0.003
    bracket = found({0: 0.1, 1: 0.017, 4: 0.005}, damages, costs=costs, enough=4)
    assert bracket.prefixes.names == ("a", "b", "c", "d", "e")
    assert given_back(bracket, (0.0081, True)) == ["abc"]


def test_what_would_win_little_is_not_tried():
    drops = {0: 0.5, 2: 0.02, 4: 0.019, 5: 0.005}
    assert given_back(found(drops, EIGHT, enough=5), (0.006, True)) == ["abe"]
    drops[4] = 0.01999
    cheap = found(drops, {**EIGHT, "c": 0.078, "d": 0.077}, costs={"c": 0.01, "d": 0.01}, enough=5)
    assert cheap.prefixes.names == tuple("abcdefgh")
    assert given_back(cheap) == []


def test_ops_that_hurt_more_than_was_predicted_count_that_much_more():
    bracket = found({0: 0.09, 6: 0.004, 7: 0.003}, EIGHT, enough=7, goal=0.05)
    assert given_back(bracket, (0.2, False), (0.2, False)) == ["abc", "abdefg"]


def test_a_trial_that_fails_halves_what_is_dared():
    drops = {0: 0.065, 7: 0.002}
    bracket = found(drops, EIGHT, enough=7, goal=0.05)
    tried = given_back(bracket, (None, False), (None, False), (None, False))
    assert [7 - len(one) for one in tried] == [5, 2, 1]


def test_more_is_given_back_after_what_went_well():
    bracket = found({0: 0.2, 7: 0.002}, EIGHT, enough=7, goal=0.05)
    assert given_back(bracket, (0.01, True), (0.045, True)) == ["abcdef", "abcde"]


def test_all_int8_is_not_tried_again():
    assert given_back(found({0: 0.011, 2: 0.001}, EIGHT, enough=2), (0.002, True)) == ["a"]
    assert given_back(found({0: 0.011, 1: 0.001}, EIGHT, enough=1, goal=0.05)) == []


def test_it_ends_after_three():
    bracket = found({0: 0.2, 7: 0.002}, EIGHT, enough=7, goal=0.05)
    assert len(given_back(bracket, *[(0.003, True)] * 3)) == 3


def test_ops_whose_drop_is_not_known_stay():
    bracket = found({0: None, 4: 0.011, 5: 0.009}, EIGHT, enough=5, goal=0.02)
    assert given_back(bracket, (0.011, True)) == ["abcd"]
    assert given_back(found({0: None, 4: None, 5: 0.009}, EIGHT, enough=5)) == []


def test_ops_out_of_measure_stay():
    damages = {**EIGHT, "b": math.nan}
    bracket = found({0: 0.012, 4: 0.0115, 5: 0.005}, damages, enough=5)
    assert given_back(bracket, (0.006, True)) == ["be"]


def test_equal_shares_where_the_damages_say_nothing():
    bracket = found({0: 0.02, 4: 0.004}, dict.fromkeys("abcdefgh", 0.0), enough=4)
    assert given_back(bracket, (0.009, True)) == ["bcd"]
