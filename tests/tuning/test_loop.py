"""The loop: judge first, then look at the budget."""

import dataclasses

import pytest
from made_up import Damaged, fewest_fp32, search_for, space_of, tuned

from lpot_lightning.errors import ConfError, EvaluationError, QuantizationError
from lpot_lightning.tuning.countdown import Countdown, OutOfTime
from lpot_lightning.tuning.history import History
from lpot_lightning.tuning.score import Score
from lpot_lightning.tuning.strategies.strategy import Strategy
from lpot_lightning.tuning.strategies.table import STRATEGIES
from lpot_lightning.tuning.trial import Budget

SPACE = space_of("abcd")
DAMAGES = {"a": 0.04, "b": 0.002, "c": 0.03, "d": 0.001}
PRINTS = {"config": "c0ffee"}


def proposing(*fp32: str, finishes=False):
    """Return a strategy that proposes these ops, one letter each, in fp32."""

    def search(space, _):
        for names in fp32:
            yield space.all_int8().with_fp32(names)

    return Strategy(name="made_up", search=search, finishes=finishes)


def names(outcome):
    return ["".join(trial.recipe.fp32_ops) for trial in outcome.trials]


def test_it_stops_at_the_first_success():
    outcome = tuned(proposing("", "ac", "abc"), SPACE, Damaged(DAMAGES), search_for())
    assert names(outcome) == ["", "ac"]
    assert outcome.status == "met"
    assert outcome.best == outcome.trials[1]
    assert [trial.accepted for trial in outcome.trials] == [False, True]


def test_a_strategy_that_finishes_is_not_stopped_and_the_cheapest_is_best():
    strategy = proposing("abc", "ac", "abcd", finishes=True)
    outcome = tuned(strategy, SPACE, Damaged(DAMAGES), search_for())
    assert names(outcome) == ["abc", "ac", "abcd"]
    assert names_of_best(outcome) == "ac"


def names_of_best(outcome):
    return "".join(outcome.best.recipe.fp32_ops)


def test_of_equally_cheap_ones_the_better_and_then_the_earlier_is_best():
    strategy = proposing("acb", "acd", "abc", finishes=True)
    outcome = tuned(strategy, SPACE, Damaged({**DAMAGES, "d": 0.005}), search_for())
    assert names_of_best(outcome) == "acd"
    same = tuned(strategy, SPACE, Damaged({**DAMAGES, "b": 0.0, "d": 0.0}), search_for())
    assert same.best.number == 1


def test_where_nothing_is_accepted_the_most_accurate_is_best():
    outcome = tuned(proposing("", "c", "a", "b"), SPACE, Damaged(DAMAGES), search_for())
    assert outcome.status == "not_met"
    assert names_of_best(outcome) == "a"


def test_lower_is_better_where_it_is_said():
    search = search_for(higher_is_better=False)
    model = Damaged(DAMAGES, higher_is_better=False)
    outcome = tuned(proposing("", "c", "a", "b"), SPACE, model, search)
    assert outcome.status == "not_met"
    assert names_of_best(outcome) == "a"


def test_the_last_trial_of_the_budget_is_judged():
    strategy = proposing("", "b", "ac")
    outcome = tuned(strategy, SPACE, Damaged(DAMAGES), search_for(), budget=Budget(max_trials=3))
    assert outcome.status == "met"


def test_a_budget_that_runs_out_says_so():
    strategy = proposing("", "b", "ac")
    outcome = tuned(strategy, SPACE, Damaged(DAMAGES), search_for(), budget=Budget(max_trials=2))
    assert outcome.status == "budget_exhausted"
    assert names(outcome) == ["", "b"]


def test_a_search_that_ends_with_the_budget_is_not_cut_short():
    strategy = proposing("", "b")
    outcome = tuned(strategy, SPACE, Damaged(DAMAGES), search_for(), budget=Budget(max_trials=2))
    assert outcome.status == "not_met"


def test_performance_only_takes_the_first_that_can_be_judged():
    def run_trial(recipe):
        return Score.failing("no", 1.0) if not recipe.fp32_ops else Score.of(0.1, 1.0)

    budget = Budget(performance_only=True)
    outcome = tuned(proposing("", "b", "ac"), SPACE, run_trial, search_for(), budget=budget)
    assert names(outcome) == ["", "b"]
    assert outcome.status == "not_met"
    assert names_of_best(outcome) == "b"


def test_with_a_timeout_it_goes_on_improving_until_the_time_is_over():
    now = [100.0]
    model = Damaged(DAMAGES)

    def slow(recipe):
        now[0] += 4.0
        return model(recipe)

    strategy = proposing("abc", "ac", "acd", "abcd")
    budget = Budget(timeout=10)
    outcome = tuned(strategy, SPACE, slow, search_for(), budget=budget, now=lambda: now[0])
    assert names(outcome) == ["abc", "ac", "acd"]  # the third was in flight when time was over
    assert names_of_best(outcome) == "ac"
    assert outcome.status == "met"


def test_a_timeout_without_success_is_a_spent_budget():
    now = iter(range(0, 1000, 6))
    clock = {"now": lambda: float(next(now)), "budget": Budget(timeout=5)}
    outcome = tuned(proposing("", "b"), SPACE, Damaged(DAMAGES), search_for(), **clock)
    assert outcome.status == "budget_exhausted"


def test_when_the_time_is_over_nothing_is_ranked_any_more():
    def never(_):
        raise AssertionError("ranked")

    now = iter(range(0, 1000, 5))
    search = dataclasses.replace(search_for(), rank=never)
    clock = {"now": lambda: float(next(now)), "budget": Budget(timeout=8)}
    outcome = tuned(STRATEGIES["auto"], SPACE, Damaged(DAMAGES), search, **clock)
    assert names(outcome) == [""]
    assert outcome.status == "budget_exhausted"


class Batches:
    """A model whose trials take four batches of a second each, and end when the time is over."""

    def __init__(self, model=None):
        self.model, self.seconds, self.seen = model or Damaged(DAMAGES), 0.0, 0
        self.countdown = Countdown(self.now)

    def now(self):
        return self.seconds

    def __call__(self, recipe):
        for _ in range(4):
            self.seconds, self.seen = self.seconds + 1.0, self.seen + 1
            if self.countdown.is_over():
                raise OutOfTime
        return self.model(recipe)

    def tuned(self, strategy, timeout, **given):
        given = {"now": self.now, "countdown": self.countdown, **given}
        return tuned(strategy, SPACE, self, search_for(), budget=Budget(timeout=timeout), **given)


def test_a_trial_is_abandoned_at_the_next_batch_when_the_time_is_over():
    model, history = Batches(), History()
    outcome = model.tuned(proposing("abc", "ac", "acd", "abcd"), 9.5, history=history)
    assert (names(outcome), model.seen) == (["abc", "ac"], 10)
    assert [past.recipe.key for past in history.trials] == [
        trial.recipe.key for trial in outcome.trials
    ]
    assert names_of_best(outcome) == "ac"
    assert outcome.status == "met"


def test_without_success_an_abandoned_trial_is_a_spent_budget():
    outcome = Batches().tuned(proposing("", "b"), 5.5)
    assert names(outcome) == [""]
    assert outcome.status == "budget_exhausted"


def test_the_first_trial_that_is_judged_is_finished():
    def failing_first(recipe):
        return Score.failing("no", 1.0) if recipe.fp32_ops == () else Score.of(0.5, 1.0)

    model = Batches(failing_first)
    outcome = model.tuned(proposing("", "a", "b"), 4.5)
    assert (names(outcome), model.seen) == (["", "a"], 8)
    assert names_of_best(outcome) == "a"


def test_without_a_timeout_there_is_no_countdown():
    model = Batches()
    model.tuned(proposing("abc", "ac", finishes=True), 0)
    assert model.seen == 8


class Glanced(Damaged):
    """A model of which trials with a drop of more than 0.05 are ended after a tenth."""

    def __call__(self, recipe):
        score = super().__call__(recipe)
        if score.accuracy > 0.85:
            return score
        return Score.screening(score.accuracy - 0.01, 0.5, 0.1)

    def in_full(self, recipe):
        return super().__call__(recipe)


def test_a_screened_trial_is_neither_accepted_nor_best():
    model = Glanced(DAMAGES)
    search = search_for(goal=0.5)  # the estimate alone would do
    outcome = tuned(proposing("", "a", finishes=True), SPACE, model, search)
    assert [trial.accepted for trial in outcome.trials] == [False, True]
    assert names_of_best(outcome) == "a"
    assert len(model.tried) == 2  # nothing has to be judged again


def test_a_screened_trial_is_told_to_the_strategy():
    told = []

    def search(space, _):
        told.append((yield space.all_int8()))

    tuned(Strategy(name="one", search=search), SPACE, Glanced(DAMAGES), search_for())
    assert [(one.screened, one.accepted) for one in told] == [(True, False)]
    assert told[0].accuracy == pytest.approx(0.817)


BAD = dict.fromkeys("abcd", 0.1)


def all_screened(history, model=None, **given):
    """Try four recipes, of which the third looks best."""
    model = model or Glanced({**BAD, "b": 0.2})
    given = {"run_in_full": model.in_full, "history": history, **given}
    strategy = proposing("", "a", "b", "c")
    return tuned(strategy, SPACE, model, search_for(), budget=Budget(max_trials=4), **given)


def test_if_all_were_screened_the_best_looking_is_judged_in_full_under_its_number():
    heard, history = [], History()
    outcome = all_screened(history, on_trial=heard.append)
    assert names(outcome) == ["", "a", "b", "c"]
    assert [trial.score.screened for trial in outcome.trials] == [True, True, False, True]
    assert outcome.best == outcome.trials[2]
    assert (outcome.best.number, outcome.best.score.evaluations) == (3, 1.1)
    assert outcome.best.score.accuracy == pytest.approx(0.6)
    assert outcome.status == "not_met"
    assert [trial.number for trial in heard] == [1, 2, 3, 4, 3]
    assert [past.score.screened for past in history.trials] == [True, True, True, True, False]


def test_it_may_turn_out_to_be_good_enough():
    class Hasty(Glanced):
        def in_full(self, recipe):
            return Score.of(0.9, 1.0)

    outcome = all_screened(History(), Hasty(BAD))
    assert outcome.status == "met"
    assert outcome.best.accepted


def test_if_it_fails_the_next_best_looking_is_judged():
    class Broken(Glanced):
        def in_full(self, recipe):
            if recipe.fp32_ops == ("b",):
                raise RuntimeError("no kernel")
            return super().in_full(recipe)

    outcome = all_screened(History(), Broken({**BAD, "b": 0.2}))
    assert outcome.trials[2].score.failure == "RuntimeError: no kernel"
    assert names_of_best(outcome) == "a"  # of two that look alike the first


def test_the_time_is_no_matter_for_the_only_model():
    class Slow(Glanced):
        def in_full(self, recipe):
            assert not countdown.is_over()
            return super().in_full(recipe)

    countdown = Countdown(lambda: float("inf"))
    now = iter(range(0, 1000, 5))
    given = {"now": lambda: float(next(now)), "budget": Budget(timeout=8), "countdown": countdown}
    model = Slow(BAD)
    given |= {"run_in_full": model.in_full}
    outcome = tuned(proposing("", "a"), SPACE, model, search_for(), **given)
    assert outcome.best is not None


@pytest.mark.parametrize("cut", [1, 4, 5])
def test_screened_trials_are_replayed_and_the_end_is_the_same(tmp_path, cut):
    whole = all_screened(History())
    path = tmp_path / "history.jsonl"
    heard = []

    def killing(trial):
        heard.append(trial)
        if len(heard) == cut:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        all_screened(History.open(path, PRINTS), on_trial=killing)
    model = Glanced({**BAD, "b": 0.2})
    resumed = all_screened(History.open(path, PRINTS), model)
    assert resumed == whole
    assert len(model.tried) == 5 - cut
    again = all_screened(History.open(path, PRINTS), never := Glanced({}))
    assert again == whole
    assert never.tried == []


def test_what_was_judged_in_full_counts_when_the_search_goes_on():
    history = History()
    all_screened(history)

    class Half(Glanced):
        def __call__(self, recipe):
            return Score.of(0.55, 1.0)

    strategy = proposing("", "a", "b", "c", "d")
    outcome = tuned(strategy, SPACE, Half(BAD), search_for(), history=history)
    assert names(outcome) == ["", "a", "b", "c", "d"]
    assert names_of_best(outcome) == "b"


@pytest.mark.parametrize("given", [{"max_trials": 0}, {"timeout": -1}, {"timeout": float("nan")}])
def test_a_budget_is_checked_at_birth(given):
    with pytest.raises(ConfError, match=rf"tuning\.exit_policy\.{next(iter(given))}"):
        Budget(**given)


def test_a_recipe_is_tried_once_and_told_its_own_score_again():
    told = []

    def search(space, _):
        for fp32 in ("", "b", "", "b", "d"):
            score = yield space.all_int8().with_fp32(fp32)
            told.append(round(0.9 - score.accuracy, 6))

    model = Damaged(DAMAGES)
    budget = Budget(max_trials=3)
    outcome = tuned(
        Strategy(name="again", search=search), SPACE, model, search_for(), budget=budget
    )
    assert told == [0.073, 0.071, 0.073, 0.071, 0.072]
    assert names(outcome) == ["", "b", "d"]
    assert len(model.tried) == 3
    assert outcome.status == "not_met"


def test_a_strategy_that_only_repeats_itself_comes_to_an_end():
    def search(space, _):
        while True:
            yield space.all_int8()

    outcome = tuned(Strategy(name="stuck", search=search), SPACE, Damaged(DAMAGES), search_for())
    assert len(outcome.trials) == 1


def test_an_exception_is_a_failed_trial_and_the_search_goes_on():
    model = Damaged(DAMAGES)

    def run_trial(recipe):
        if "c" in recipe.fp32_ops:
            raise RuntimeError("no kernel")
        return model(recipe)

    history = History()
    strategy = proposing("c", "", "ac", "ab")
    outcome = tuned(strategy, SPACE, run_trial, search_for(), history=history)
    failures = [trial.score.failure for trial in outcome.trials]
    assert failures == ["RuntimeError: no kernel", None, "RuntimeError: no kernel", None]
    assert [past.score.failure for past in history.trials] == failures
    assert names_of_best(outcome) == "ab"


def test_a_failure_of_several_lines_is_told_in_one():
    def run_trial(_):
        raise RuntimeError("\x1b[1mno kernel\x1b[0m for\n\n  this shape\n")

    outcome = tuned(proposing("a"), SPACE, run_trial, search_for())
    (trial,) = outcome.trials
    assert trial.score.failure == "RuntimeError: no kernel for this shape"


def test_failed_trials_alone_leave_no_best():
    outcome = tuned(proposing("", "a"), SPACE, lambda _: Score.failing("no", 1.0), search_for())
    assert outcome.best is None
    assert outcome.status == "not_met"


def test_the_same_exception_three_times_at_the_start_is_no_fault_of_a_recipe():
    def run_trial(_):
        raise OSError("disk is gone")

    history = History()
    with pytest.raises(QuantizationError, match="first 3 trials all failed with `OSError: disk"):
        tuned(proposing("", "a", "b", "c"), SPACE, run_trial, search_for(), history=history)
    assert history.trials == ()


def test_other_exceptions_or_a_success_between_are_failed_trials():
    reasons = iter(["one", "one", "two", "one", "one", "one"])
    history = History()

    def run_trial(_):
        raise OSError(next(reasons))

    strategy = proposing("", "a", "b", "c", "d", "ab")
    outcome = tuned(strategy, SPACE, run_trial, search_for(), history=history)
    assert len(outcome.trials) == len(history.trials) == 6


def test_failures_at_the_start_are_kept_when_the_search_ends():
    def run_trial(_):
        raise OSError("disk is gone")

    history = History()
    tuned(proposing("", "a"), SPACE, run_trial, search_for(), history=history)
    assert len(history.trials) == 2


@pytest.mark.parametrize("error", [EvaluationError("no metric"), KeyboardInterrupt(), SystemExit()])
def test_what_is_no_trial_s_fault_comes_through_at_once(error):
    def run_trial(_):
        raise error

    history = History()
    with pytest.raises(type(error)):
        tuned(proposing("", "a"), SPACE, run_trial, search_for(), history=history)
    assert history.trials == ()


def test_the_best_is_announced_when_it_becomes_best_and_is_then_in_the_history():
    history = History()
    heard = []

    def on_best(trial):
        assert history.find(trial.recipe.key) == trial.score
        heard.append(("best", trial.number))

    tuned(
        proposing("", "b", "c", "ac", finishes=True),
        SPACE,
        Damaged({**DAMAGES, "b": -0.01}),
        search_for(),
        history=history,
        on_best=on_best,
        on_trial=lambda trial: heard.append(("trial", trial.number)),
    )
    expected = [("best", 1), ("trial", 1), ("trial", 2), ("best", 3), ("trial", 3)]
    assert heard == [*expected, ("best", 4), ("trial", 4)]


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
@pytest.mark.parametrize("max_trials", [100, 3])
def test_cut_at_any_trial_and_resumed_it_ends_as_if_it_had_not_been(tmp_path, strategy, max_trials):
    budget = Budget(max_trials=max_trials)

    def run(path, model, **given):
        history = History.open(path, PRINTS)
        history.check_baseline(0.9)
        given = {"history": history, "budget": budget, **given}
        return tuned(strategy, SPACE, fragile(model), search_for(DAMAGES), **given)

    whole = run(tmp_path / "whole.jsonl", Damaged(DAMAGES))
    for cut in range(1, len(whole.trials)):
        path, first, second = tmp_path / f"{cut}.jsonl", Damaged(DAMAGES), Damaged(DAMAGES)
        with pytest.raises(KeyboardInterrupt):
            run(path, first, on_trial=killing_at(cut))
        resumed = run(path, second)
        assert resumed == whole
        assert [trial.replayed for trial in resumed.trials].count(True) == cut
        assert len(first.tried) + len(second.tried) == len(whole.trials)


def fragile(model):
    """Return a trial runner to which some recipes fail."""

    def run_trial(recipe):
        score = model(recipe)
        return Score.failing("overflow", 1.0) if recipe.fp32_ops == ("d",) else score

    return run_trial


def killing_at(number):
    def on_trial(trial):
        if trial.number == number:
            raise KeyboardInterrupt

    return on_trial


def test_a_replayed_trial_is_announced_as_such():
    history = History()
    first = tuned(proposing("ac"), SPACE, Damaged(DAMAGES), search_for(), history=history)
    heard = []
    model = Damaged(DAMAGES)
    second = tuned(
        proposing("ac"), SPACE, model, search_for(), history=history, on_best=heard.append
    )
    assert second == first
    assert model.tried == []
    assert [trial.replayed for trial in heard] == [True]
    assert fewest_fp32(heard[0].recipe) == 2
