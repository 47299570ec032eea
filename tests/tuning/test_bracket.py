"""Which size is tried next, and how many are tried at most."""

import math
import random
from itertools import product

import pytest
from made_up import INT8, linear, search_for, space_of, verdict

from lpot_lightning.tuning.sensitivity import Sensitivity
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies import bracket as module
from lpot_lightning.tuning.strategies.bracket import Bracket, close, longest
from lpot_lightning.tuning.strategies.prefixes import Prefixes
from lpot_lightning.tuning.strategies.ranking import Ranking


def bracket_of(damages, first=0.1, *, costs=None, fixed=(), goal=0.01):
    space = Space((*space_of(damages).ops, *(linear(name, [INT8]) for name in fixed)))
    found = [Sensitivity(op, value, (costs or {}).get(op, 1.0)) for op, value in damages.items()]
    ranking = Ranking.of(found, among=list(damages))
    bracket = Bracket(
        prefixes=Prefixes(space.all_int8(), ranking),
        search=search_for(goal=goal, baseline=1.0),
    )
    bracket.tell(0, dropped(first))
    return bracket


def dropped(drop, accepted=False):
    return verdict(None if drop is None else 1.0 - drop, accepted)


def sizes_tried(bracket, judge):
    """Return the sizes that are tried, when ``judge`` gives their drop and whether it is fine."""
    trials, sizes = close(bracket), []
    recipe = next(trials, None)
    while recipe is not None:
        sizes.append(len(recipe.fp32_ops))
        try:
            recipe = trials.send(dropped(*judge(sizes[-1])))
        except StopIteration:
            recipe = None
    return sizes


def adding_up(damages, goal=0.01):
    """Return a judge for whom the drop is the sum of the damages."""
    ordered = sorted(damages.values(), reverse=True)
    return lambda size: (sum(ordered[size:]), sum(ordered[size:]) <= goal)


def smooth(count, drop=0.1):
    values = [0.9**number for number in range(count)]
    return {f"op{n:03d}": drop * value / sum(values) for n, value in enumerate(values)}


def equal(count):
    return {f"op{number:03d}": 0.1 for number in range(count)}


def test_the_first_size_is_the_one_that_is_predicted_moved_a_fifth_to_the_middle():
    bracket = bracket_of(equal(100), first=0.02)  # half of the damage has to go
    assert bracket.probe(left=99) == 50
    bracket = bracket_of(equal(100), first=0.0101)  # a hundredth: one op
    assert bracket.probe(left=99) == round(1 + 0.2 * 49)
    bracket = bracket_of(equal(100), first=0.1)
    assert bracket.probe(left=99) == round(90 - 0.2 * 40)


def test_a_cliff_on_the_way_is_where_it_stops():
    damages = {**equal(100), "a": 20.0, "b": 30.0}
    assert bracket_of(damages, first=0.02).probe(left=99) == 2


def test_damages_that_were_right_are_soon_done():
    damages = smooth(40)
    bracket = bracket_of(damages)
    sizes = sizes_tried(bracket, adding_up(damages))
    assert adding_up(damages)(bracket.enough)[1]
    assert not adding_up(damages)(bracket.enough - 1)[1]
    assert len(sizes) <= 3


def test_a_failed_trial_says_nothing_but_that_it_failed():
    bracket = bracket_of(smooth(40))
    first = bracket.probe(left=99)
    bracket.tell(first, dropped(None))
    assert bracket.too_few == first
    assert bracket.drops == {0: pytest.approx(0.1)}
    assert first < bracket.probe(left=99) < 40


def test_where_all_int8_failed_too_it_is_bisection():
    bracket = bracket_of(smooth(40), first=None)
    assert bracket.probe(left=99) == 20
    bracket.tell(20, dropped(None))
    assert bracket.probe(left=99) == 30


def test_it_is_bisection_for_a_goal_that_is_no_drop():
    assert bracket_of(smooth(40), goal=-0.01).probe(left=99) == 20


def test_an_accepted_size_alone_is_enough_to_predict_from():
    bracket = bracket_of(equal(100), first=None)
    bracket.tell(60, dropped(0.005, accepted=True))  # 40 ops are left, 80 might be
    assert bracket.probe(left=99) == round(20 + 0.2 * 10)


def test_the_nearest_sizes_below_and_above_the_goal_are_what_is_predicted_from():
    bracket = bracket_of(equal(100), first=0.5)
    bracket.tell(40, dropped(0.02))
    bracket.tell(80, dropped(0.005, accepted=True))
    left = 20 * 2 ** (math.log(3) / math.log(4))  # the power law through 60 and 20 ops
    assert bracket.probe(left=99) == round(math.ceil(100 - left) - 0.2 * 6)


def test_without_an_accepted_size_it_is_the_last_two_that_were_not():
    bracket = bracket_of(equal(100), first=0.04)
    bracket.tell(50, dropped(0.02))
    assert bracket.probe(left=99) == 75


def test_an_accepted_size_that_is_as_good_as_fp32_is_a_number_to_count_with():
    bracket = bracket_of(equal(100), first=0.1)
    bracket.tell(60, dropped(-0.02, accepted=True))
    assert 0 < bracket.probe(left=99) < 60


def test_ops_out_of_measure_are_in_fp32_at_first_and_searched_by_bisection_at_last():
    damages = {**equal(20), "x": math.nan, "y": math.inf, "z": math.inf}
    bracket = bracket_of(damages, first=0.9)
    assert bracket.probe(left=99) > 3
    bracket.tell(3, dropped(0.005, accepted=True))
    assert bracket.probe(left=99) == 1


def test_where_no_op_could_be_measured_it_is_bisection():
    assert bracket_of(dict.fromkeys("abcdefgh", math.nan)).probe(left=99) == 4


def test_it_ends_where_little_cost_is_open():
    damages = smooth(200)
    bracket = bracket_of(damages)
    sizes_tried(bracket, adding_up(damages))
    prefixes = bracket.prefixes
    assert bracket.enough - bracket.too_few > 1
    assert prefixes.costs[bracket.enough] - prefixes.costs[bracket.too_few + 1] < 0.02 * 200


def test_it_goes_on_where_much_cost_is_open_however_few_the_ops():
    damages = smooth(200)
    dear = {"op021": 100.0}
    bracket = bracket_of({**damages, "op021": damages["op021"] * 100}, costs=dear)
    bracket.too_few = 20
    bracket.tell(23, dropped(0.005, accepted=True))
    assert not bracket.is_closed


def test_it_goes_on_where_nothing_was_accepted():
    sizes = sizes_tried(bracket_of(smooth(200)), lambda _: (0.1, False))
    assert sizes[-1] == 199


def test_the_longest_search():
    assert [longest(ops) for ops in (0, 1, 2, 3, 4, 5, 150, 500)] == [1, 1, 2, 3, 3, 4, 9, 10]


@pytest.fixture
def to_the_end(monkeypatch):
    """Let no trial be too little worth."""
    monkeypatch.setattr(module, "WORTH", 0.0)


@pytest.mark.usefixtures("to_the_end")
@pytest.mark.parametrize("fixed", [[], ["fixed"]])
@pytest.mark.parametrize("count", range(1, 10))
def test_no_verdicts_make_it_longer_than_its_bound(count, fixed):
    for drops in ((0.0101, 0.0), (0.9, 0.009), (0.02, -0.5), (None, None)):
        for answers in product([True, False], repeat=longest(count)):
            told = iter(answers)

            def judge(_, told=told, drops=drops):
                accepted = next(told)
                return drops[accepted], accepted and drops[1] is not None

            sizes = sizes_tried(bracket_of(smooth(count), fixed=fixed), judge)
            assert len(sizes) <= longest(count)
            assert len(set(sizes)) == len(sizes)


@pytest.mark.usefixtures("to_the_end")
@pytest.mark.parametrize("seed", range(4))
def test_no_worthless_ranking_makes_it_longer_than_its_bound(seed):
    draw = random.Random(seed)
    for count in range(1, 201):
        damages = {f"op{n:03d}": draw.lognormvariate(0, 3) for n in range(count)}
        boundary, power = draw.random() * (count + 1), draw.choice([0.1, 1.0, 5.0])

        def judge(size, boundary=boundary, power=power, count=count):
            drop = 0.01 * ((count + 1 - size) / (count + 1 - boundary)) ** power
            return drop + draw.gauss(0, 0.0001), size >= boundary

        bracket = bracket_of(damages, first=draw.choice([0.011, 0.2, 1.0, None]))
        sizes = sizes_tried(bracket, judge)
        assert len(sizes) <= longest(count)
        assert bracket.enough == max(1, math.ceil(boundary)) or bracket.enough == count


@pytest.mark.usefixtures("to_the_end")
def test_the_smallest_size_is_found_where_acceptance_is_monotone():
    for goal in (0.001, 0.005, 0.01, 0.05, 0.09):
        damages = smooth(60)
        needed = next(n for n in range(61) if adding_up(damages, goal)(n)[1])
        bracket = bracket_of(damages, goal=goal)
        sizes_tried(bracket, adding_up(damages, goal))
        assert bracket.enough == needed
