"""Fp32 is judged in full, a trial as long as it is worth it."""

from dataclasses import dataclass

import pytest
from torch import nn

from lpot_lightning.judging.protocols import Evaluation, Monitor
from lpot_lightning.judging.screened_judge import ScreenedJudge
from lpot_lightning.machine.ranks import Ranks
from lpot_lightning.tuning.countdown import OutOfTime
from lpot_lightning.tuning.score import Criterion
from lpot_lightning.tuning.screening import Unseen

MODEL = nn.Identity()
ONE_PERCENT = Criterion(0.01, relative=True, higher_is_better=True)


@dataclass(frozen=True)
class Mean:
    total: float
    weight: float
    name: str

    def value(self):
        return self.total / self.weight

    def continued(self, before, end):
        return (self.total + end.total - before.total) / end.weight


class Hits:
    """A runner, and its passes: of 40 batches with the same share of hits each."""

    metric = Monitor("hits", True)

    def __init__(self, hits=1.0, logged="hits"):
        self.hits, self.logged, self.data, self.fault = hits, logged, 0, None
        self.batches = self.checksum = 0

    def seen(self, model):
        return None

    def evaluate(self, model, label, watch=None):
        for self.batches in range(1, 41):
            self.checksum = self.data * self.batches
            if watch is not None:
                watch(self)
        if self.fault is not None:
            raise self.fault
        return Evaluation(accuracy=self.hits, monitor=self.metric, batches=40, seconds=1.0)

    def partial(self):
        if isinstance(self.logged, Exception):
            raise self.logged
        return self.logged and Mean(self.hits * self.batches, self.batches, self.logged)


class Ended(Ranks):
    """A process that hears of another one what it is told to."""

    def __init__(self, other):
        self.size, self.other = 2, other

    def gather(self, value):
        return [value, self.other] if isinstance(value, tuple) and len(value) == 3 else [value] * 2


def after_fp32(runner, said=None, *, ranks=None, gives_up=True):
    lines = [] if said is None else said
    judge = ScreenedJudge(runner, ranks or Ranks(), lines.append, gives_up=gives_up)
    found = judge.judge_fp32(MODEL)
    judge.give_up_by(ONE_PERCENT, found)
    return judge


def test_a_hopeless_trial_gives_an_estimate_and_what_it_spent():
    runner = Hits()
    judge = after_fp32(runner)
    runner.hits = 0.3
    score = judge.judge_int8(MODEL, "int8")
    assert (score.accuracy, score.screened, score.evaluations) == (pytest.approx(0.3), True, 0.125)


def test_in_full_nothing_is_given_up():
    runner = Hits()
    judge = after_fp32(runner)
    runner.hits = 0.3
    score = judge.judge_int8(MODEL, "int8", in_full=True)
    assert (score.accuracy, score.screened, score.evaluations) == (0.3, False, 1.0)


def test_nothing_is_given_up_where_it_is_not_asked_for():
    runner, said = Hits(), []
    judge = after_fp32(runner, said, gives_up=False)
    runner.hits = 0.3
    assert not judge.judge_int8(MODEL, "int8").screened
    assert said == []


@pytest.mark.parametrize(
    ("logged", "why"),
    [
        (None, "`hits` is known only when a pass is over"),
        ("loss", "`hits` is known only when a pass is over"),
        (Unseen("`hits` is a riddle"), "`hits` is a riddle"),
    ],
)
def test_without_a_running_value_one_line_says_so(logged, why):
    runner, said = Hits(logged=logged), []
    judge = after_fp32(runner, said)
    assert said == [f"hopeless trials are judged in full, too: {why}"]
    runner.hits = 0.3
    assert not judge.judge_int8(MODEL, "int8").screened


def test_other_data_are_told_once_and_end_it():
    runner, said = Hits(), []
    judge = after_fp32(runner, said)
    runner.hits, runner.data = 0.3, 1
    assert not judge.judge_int8(MODEL, "int8").screened
    assert not judge.judge_int8(MODEL, "int8").screened
    assert said == [
        "from here on hopeless trials are judged in full, too: its batches are not those that the"
        " fp32 model was judged by"
    ]


def test_when_the_time_is_over_a_trial_is_out_of_time():
    judge = after_fp32(Hits())
    judge.countdown.start(0.0)
    with pytest.raises(OutOfTime):
        judge.judge_int8(MODEL, "int8")


def test_a_failing_trial_fails_as_it_did():
    runner = Hits()
    judge = after_fp32(runner)
    runner.fault = ValueError("no kernel")
    with pytest.raises(ValueError, match="no kernel"):
        judge.judge_int8(MODEL, "int8")


def test_what_another_process_gave_up_is_given_up():
    runner = Hits()
    judge = after_fp32(runner, ranks=Ended((False, 0.4, 10)))
    runner.fault = RuntimeError("the other one is gone")
    score = judge.judge_int8(MODEL, "int8")
    assert (score.accuracy, score.screened, score.evaluations) == (0.4, True, 50 / 80)


def test_what_has_no_time_in_another_process_has_none():
    runner = Hits()
    judge = after_fp32(runner, ranks=Ended((True, None, 10)))
    runner.fault = RuntimeError("the other one is gone")
    with pytest.raises(OutOfTime):
        judge.judge_int8(MODEL, "int8")


def test_a_pass_that_nobody_can_look_into_is_judged_in_full_without_a_word():
    class Closed(Hits):
        def evaluate(self, model, label, watch=None):
            return super().evaluate(model, label)

    runner, said = Closed(), []
    judge = after_fp32(runner, said)
    runner.hits = 0.3
    assert not judge.judge_int8(MODEL, "int8").screened
    assert said == []
