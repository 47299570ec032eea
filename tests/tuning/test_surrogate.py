"""What the damages predict."""

import math

import pytest

from lpot_lightning.tuning.strategies.surrogate import damage_at


def test_with_one_drop_it_grows_with_the_damage():
    assert damage_at(0.01, [(1.0, 0.04)]) == pytest.approx(0.25)


@pytest.mark.parametrize("power", [0.5, 0.8, 1.0, 1.5, 2.0])
def test_with_two_it_is_the_power_law_through_both(power):
    points = [(3.0, 0.05 * 3.0**power), (1.0, 0.05)]
    assert damage_at(0.1, points) == pytest.approx(2 ** (1 / power))
    assert damage_at(0.1, points[::-1]) == pytest.approx(2 ** (1 / power))


def test_a_third_one_does_not_count():
    assert damage_at(0.01, [(1.0, 0.04), (0.5, 0.02), (0.1, 9.0)]) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("drops", "power"), [((0.04, 0.04), 0.5), ((0.04, 0.05), 0.5), ((0.9, 0.02), 2.0)]
)
def test_a_power_beyond_reason_is_noise(drops, power):
    expected = (0.01 / drops[0]) ** (1 / power)
    assert damage_at(0.01, [(1.0, drops[0]), (0.5, drops[1])]) == pytest.approx(expected)


@pytest.mark.parametrize("drop", [0.0, -0.5, 1e-9])
def test_a_drop_below_a_tenth_of_the_goal_is_a_tenth(drop):
    points = [(1.0, 0.04), (0.2, drop)]
    assert damage_at(0.01, points) == damage_at(0.01, [(1.0, 0.04), (0.2, 0.001)])


def test_the_same_damage_twice_tells_no_power():
    assert damage_at(0.01, [(1.0, 0.04), (1.0, 0.02)]) == pytest.approx(0.25)


@pytest.mark.parametrize("goal", [0.0, -0.01])
def test_nothing_is_predicted_for_a_goal_that_is_no_drop(goal):
    assert damage_at(goal, [(1.0, 0.04)]) is None


def test_nothing_is_predicted_from_nothing():
    assert damage_at(0.01, []) is None


def test_it_stays_a_number():
    assert math.isfinite(damage_at(1e300, [(1e300, 1e-300)]))
