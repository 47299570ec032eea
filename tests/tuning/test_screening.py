"""A hopeless trial ends early, one that meets the goal never."""

import random

import pytest
from made_up_pass import MadeUpPass, Mean, curve_of, given_up, show

from lpot_lightning.tuning.score import Criterion
from lpot_lightning.tuning.screening import Curve, Recorder, Screen, Unseen

ONE_PERCENT = Criterion(0.01, relative=True, higher_is_better=True)
GOOD = [1.0, 0.9] * 50


def lower(values, by):
    return [value - by for value in values]


def test_the_worse_a_trial_is_the_earlier_it_is_given_up():
    ends = [given_up(GOOD, lower(GOOD, by), ONE_PERCENT) for by in (0.8, 0.2, 0.1, 0.05)]
    batches = [batches for batches, _ in ends]
    assert batches == sorted(batches)
    assert batches[0] == 5  # the fewest that are looked at
    assert 30 < batches[-1] < 90


def test_the_estimate_is_what_it_comes_to_if_it_goes_on_as_it_began():
    batches, estimate = given_up(GOOD, lower(GOOD, 0.5), ONE_PERCENT)
    assert batches < 20
    assert estimate == pytest.approx(0.45)


def test_the_estimate_of_a_share_is_never_negative():
    fp32, int8 = [1.0] * 50 + [0.5] * 50, [0.0] * 100
    assert given_up(fp32, int8, ONE_PERCENT)[1] == 0.0


def test_nothing_is_given_up_before_the_loss_would_miss_the_goal_alone():
    int8 = [*lower(GOOD[:2], 0.47), *GOOD[2:]]  # a drop of 0.94 %, all of it at the start
    assert given_up(GOOD, int8, ONE_PERCENT) is None


def test_what_the_rest_may_win_back_is_granted():
    fp32 = [1.0] * 50 + [0.6] * 50
    int8 = [0.9] * 50 + [0.7] * 50  # first it loses, then it wins as much
    assert given_up(fp32, int8, ONE_PERCENT) is None


def test_a_trial_that_misses_the_goal_a_little_is_judged_nearly_in_full():
    batches, _ = given_up(GOOD, lower(GOOD, 0.012), ONE_PERCENT)
    assert batches > 85


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("higher", [True, False])
def test_in_every_direction_and_unit(relative, sign, higher):
    """Values from 2 to 4, or negative ones, and int8 worse by 2."""
    criterion = Criterion(0.02, relative=relative, higher_is_better=higher)
    fp32 = [sign * value for value in [2.0, 4.0] * 50]
    worse = [value + (-2 if higher else 2) for value in fp32]
    better = [value + (2 if higher else -2) for value in fp32]
    batches, estimate = given_up(fp32, worse, criterion)
    assert batches < 50
    assert estimate == pytest.approx(sign * 3.0 + (-2 if higher else 2))
    assert given_up(fp32, better, criterion) is None


def test_a_goal_that_demands_an_improvement_is_never_given_up():
    criterion = Criterion(-0.05, relative=True, higher_is_better=True)
    assert given_up(GOOD, lower(GOOD, 0.9), criterion) is None


def test_several_processes_judge_by_their_part_of_the_whole():
    """Alone it is hopeless; as one of four parts of the pass it may be made good elsewhere."""
    int8 = lower(GOOD, 0.1)
    alone = given_up(GOOD, int8, ONE_PERCENT)
    assert alone is not None
    assert given_up(GOOD, int8, ONE_PERCENT, parts=8) is None
    assert given_up(GOOD, lower(GOOD, 0.8), ONE_PERCENT, parts=8)[0] > 6


@pytest.mark.parametrize("order", ["shuffled", "sorted"])
def test_none_of_many_that_meet_the_goal_is_given_up(order):
    draw = random.Random(3)
    for _ in range(300):
        fp32, int8 = passing(draw)
        pairs = list(zip(fp32, int8, strict=True))
        if order == "sorted":  # what int8 loses comes first
            pairs.sort(key=lambda pair: pair[1] >= pair[0])
        batches = [pairs[at : at + 20] for at in range(0, len(pairs), 20)]
        means = [[sum(one) / 20 for one in zip(*batch, strict=True)] for batch in batches]
        fp32, int8 = zip(*means, strict=True)
        assert given_up(fp32, int8, ONE_PERCENT) is None


def passing(draw):
    """Return hits of fp32 and int8 that differ, with a drop of 1 % at most."""
    skill = draw.uniform(0.6, 0.99)
    fp32 = [float(draw.random() < skill) for _ in range(2000)]
    int8, wrong = list(fp32), [at for at, hit in enumerate(fp32) if not hit]
    won = draw.sample(wrong, int(draw.uniform(0, 0.45) * len(wrong)))
    for at in won:
        int8[at] = 1.0
    right = [at for at, hit in enumerate(fp32) if hit]
    lost = draw.sample(right, min(len(right), len(won) + int(0.0099 * sum(fp32))))
    for at in lost:
        int8[at] = 0.0
    return fp32, int8


def test_noise_is_granted_as_luck():
    draw = random.Random(0)
    fp32, calm = [0.98] * 100, [0.88] * 100
    wild = [value + draw.choice([-0.12, 0.12]) for value in calm]
    assert given_up(fp32, wild, ONE_PERCENT)[0] > given_up(fp32, calm, ONE_PERCENT)[0]


def test_where_the_metric_saw_something_else_nothing_is_judged():
    screen = Screen(curve_of(GOOD), ONE_PERCENT)
    for seen in MadeUpPass([0.0] * 100):
        assert screen.estimate(seen.batches, Mean(0.0, seen.batches + 1)) is None


def test_the_last_batch_spares_nothing():
    assert given_up([1.0] * 5, [0.0] * 5, ONE_PERCENT) is None
    assert given_up([1.0] * 6, [0.0] * 6, ONE_PERCENT) == (5, 0.0)


def test_the_lesser_loss_counts():
    """One that joins badly, and one that begins badly: neither is hopeless."""

    class Mixed(Mean):
        def continued(self, before, end):
            return 0.0

    screen = Screen(curve_of(GOOD), ONE_PERCENT)
    for seen in MadeUpPass(GOOD):
        mean = seen.partial()
        assert screen.estimate(seen.batches, Mixed(mean.total, mean.weight)) is None

    class Biased(Mean):
        def value(self):
            return 0.0

    screen = Screen(curve_of(GOOD), ONE_PERCENT)
    for seen in MadeUpPass(GOOD):
        mean = seen.partial()
        assert screen.estimate(seen.batches, Biased(mean.total, mean.weight)) is None


def test_the_longer_the_pass_the_rarer_the_points():
    assert list(curve_of([1.0] * 60).points)[:22] == [*range(1, 22), 23]


def test_a_metric_that_begins_late_has_points_from_there_on():
    class Late(MadeUpPass):
        def partial(self):
            return Mean(1.0, self.batches - 3) if self.batches > 3 else None

    recorder = Recorder()
    for seen in Late([1.0] * 6):
        recorder(seen)
    assert list(recorder.points) == [4, 5, 6]


def test_a_metric_that_cannot_be_computed_is_not_asked_again():
    class Broken(MadeUpPass):
        asked = 0

        def partial(self):
            self.asked += 1
            raise Unseen("no number")

    recorder, seen = Recorder(), Broken([1.0] * 6)
    for one in seen:
        recorder(one)
    assert (recorder.fault, seen.asked, recorder.points) == ("no number", 1, {})


def test_a_recorder_ends_nothing():
    show(Recorder(), [float("nan"), float("inf"), -1.0])


def test_numbers_that_are_none_are_not_hopeless():
    assert given_up(GOOD, [float("nan")] * 100, ONE_PERCENT) is None


def test_an_empty_curve_judges_nothing():
    screen = Screen(Curve({}, Mean(1.0, 1.0), 1.0, 1.0), ONE_PERCENT)
    assert screen.estimate(1, Mean(0.0, 0.5)) is None
