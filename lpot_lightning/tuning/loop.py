"""Ask, try, tell, until good enough or out of budget."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field, replace
from time import monotonic

from lpot_lightning.errors import LpotError, QuantizationError, in_one_line
from lpot_lightning.machine.signals import uninterrupted
from lpot_lightning.recipe import Recipe
from lpot_lightning.tuning.countdown import Countdown, OutOfTime
from lpot_lightning.tuning.history import History
from lpot_lightning.tuning.score import Score
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.strategy import SearchContext, Strategy
from lpot_lightning.tuning.trial import Budget, Outcome, Status, Trial

_SAME_FAILURES = 3
_REPEATS = 1000


def tune(
    strategy: Strategy,
    space: Space,
    run_trial: Callable[[Recipe], Score],
    *,
    search: SearchContext,
    budget: Budget,
    history: History,
    cost: Callable[[Recipe], float],
    on_trial: Callable[[Trial], None] | None = None,
    on_best: Callable[[Trial], None] | None = None,
    now: Callable[[], float] = monotonic,
    countdown: Countdown | None = None,
    run_in_full: Callable[[Recipe], Score] | None = None,
) -> Outcome:
    """Try what ``strategy`` proposes until it is good enough, at an end, or out of budget.

    A recipe is tried once. If the strategy proposes it again it is told the same score, which is
    no new trial. If the history of an earlier run knows it, that score is taken; this counts as a
    trial, so that a run that was killed and resumed ends as one that was not.

    If in the end no trial was judged in full, the one that looked best is, under its own number.

    Args:
        strategy: in which order recipes are tried.
        space: which recipes there are.
        run_trial: converts and judges. An exception makes the trial a failed one, but an
            ``LpotError`` ends the search, and so does ``OutOfTime``, of which nothing is kept.
        search: criterion, baseline and ranking, also for the strategy.
        budget: how long to search.
        history: what was tried; appended to after each trial.
        cost: how expensive a recipe is to use; the cheapest accepted one is the best.
        on_trial: called after each trial, replayed ones too.
        on_best: called at once when a trial is the best so far, before ``on_trial``.
        now: seconds on a clock that the ``timeout`` of the budget goes by.
        countdown: is started before each trial, for ``run_trial`` to end by; it has no end until
            there is a trial that was judged in full.
        run_in_full: as ``run_trial``, but never gives up; where not given, ``run_trial`` does not.

    Raises:
        QuantizationError: if the first three trials raise the same exception: that is not a fault
            of the recipes. They are not kept, so that they are tried again when it is mended.
        LpotError: what ``run_trial`` raised.

    Example::

        outcome = tune(
            find_strategy("auto"), space, lambda recipe: Score.of(accuracy_of(recipe), 1.0),
            search=search, budget=Budget(), history=History(), cost=lambda r: len(r.fp32_ops),
        )
        outcome.status  # "met"
    """
    ledger = _Ledger(
        run_trial=run_trial,
        search=search,
        history=history,
        cost=cost,
        on_trial=on_trial,
        on_best=on_best,
    )
    clock = _Deadline(budget.timeout, now)
    countdown = countdown or Countdown()
    patience = _REPEATS + 10 * len(space.ops)
    exhausted = False
    with closing(strategy.search(space, search)) as proposals:
        recipe = next(proposals, None)
        while recipe is not None and patience > 0:
            score = ledger.known.get(recipe.key)
            if score is not None:
                patience -= 1
            elif len(ledger.trials) >= budget.max_trials or clock.is_over():
                exhausted = True
                break
            else:
                countdown.start(None if ledger.best is None else clock.left())
                try:
                    score = ledger.try_once(recipe)
                except OutOfTime:
                    exhausted = True
                    break
                if _is_enough(ledger, strategy, budget):
                    break
            if clock.is_over():
                exhausted = True
                break
            recipe = _tell(proposals, score)
    ledger.keep_held()
    countdown.start(None)
    ledger.judge_in_full(run_in_full or run_trial)
    return Outcome(tuple(ledger.trials), ledger.best, _status(ledger.best, exhausted))


class _Deadline:
    def __init__(self, timeout: float, now: Callable[[], float]) -> None:
        self._now = now
        self._end = now() + timeout if timeout > 0 else None

    def left(self) -> float | None:
        return None if self._end is None else self._end - self._now()

    def is_over(self) -> bool:
        left = self.left()
        return left is not None and left <= 0


@dataclass(kw_only=True)
class _Ledger:
    """Tries each recipe once, and writes down what came of it."""

    run_trial: Callable[[Recipe], Score]
    search: SearchContext
    history: History
    cost: Callable[[Recipe], float]
    on_trial: Callable[[Trial], None] | None
    on_best: Callable[[Trial], None] | None
    trials: list[Trial] = field(default_factory=list)
    known: dict[str, Score] = field(default_factory=dict)
    best: Trial | None = None
    _held: list[Trial] = field(default_factory=list)

    def compared(self, score: Score) -> Score:
        return score.compared(self.search.criterion, self.search.baseline)

    def try_once(self, recipe: Recipe) -> Score:
        score = self.history.find(recipe.key)
        replayed = score is not None
        error: Exception | None = None
        if score is None:
            score, error = self._attempt(self.run_trial, recipe)
        number = len(self.trials) + 1
        trial = Trial(number, recipe, self.compared(score), replayed=replayed)
        with uninterrupted():  # whoever stops the run finds its best model on disk
            self._keep(trial, error)
            self._choose(trial)
        if self.on_trial is not None:
            self.on_trial(trial)
        return trial.score

    def judge_in_full(self, run: Callable[[Recipe], Score]) -> None:
        """If no trial has been, judge the best-looking one of those that were ended early."""
        for trial in self._by_looks():
            past = self.history.find_in_full(trial.recipe.key)
            if past is not None:
                self._replace(trial, past, replayed=True)
        for trial in self._by_looks():
            if self.best is not None:
                return
            score, _ = self._attempt(run, trial.recipe)
            spent, took = trial.score.evaluations, trial.score.seconds
            score = replace(
                score, evaluations=score.evaluations + spent, seconds=score.seconds + took
            )
            self._replace(trial, score, replayed=False)

    def _by_looks(self) -> list[Trial]:
        def looks(trial: Trial) -> tuple[float, float]:
            assert trial.score.accuracy is not None
            drop = self.search.criterion.drop(trial.score.accuracy, self.search.baseline)
            return drop, self.cost(trial.recipe)

        return sorted((trial for trial in self.trials if trial.score.screened), key=looks)

    def _replace(self, trial: Trial, score: Score, *, replayed: bool) -> None:
        done = Trial(trial.number, trial.recipe, self.compared(score), replayed=replayed)
        with uninterrupted():
            self.trials[trial.number - 1] = done
            if not replayed:
                self.history.append(done.recipe, done.score)
            self._choose(done)
        if self.on_trial is not None:
            self.on_trial(done)

    def keep_held(self) -> None:
        for trial in self._held:
            self.history.append(trial.recipe, trial.score)
        self._held = []

    def _attempt(
        self, run: Callable[[Recipe], Score], recipe: Recipe
    ) -> tuple[Score, Exception | None]:
        started = monotonic()
        try:
            return run(recipe), None
        except (LpotError, OutOfTime):
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {in_one_line(error)}"
            return Score.failing(reason, seconds=monotonic() - started), error

    def _keep(self, trial: Trial, error: Exception | None) -> None:
        """Write the trial down, unless so far nothing but the same exception was seen."""
        self.known[trial.recipe.key] = trial.score
        first = len(self._held) == len(self.trials)
        same = all(held.score.failure == trial.score.failure for held in self._held)
        self.trials.append(trial)
        if error is not None and first and same:
            self._held.append(trial)
            self._refuse_if_hopeless(error)
            return
        self.keep_held()
        if not trial.replayed:
            self.history.append(trial.recipe, trial.score)

    def _refuse_if_hopeless(self, error: Exception) -> None:
        if len(self._held) >= _SAME_FAILURES:
            raise QuantizationError(
                f"the first {_SAME_FAILURES} trials all failed with `{self._held[0].score.failure}`"
                ", which is no fault of a recipe; mend it, or leave the part that raises it out "
                "with `modules`"
            ) from error

    def _choose(self, trial: Trial) -> None:
        if trial.beats(self.best, self.search.criterion, self.cost):
            self.best = trial
            if self.on_best is not None:
                self.on_best(trial)


def _is_enough(ledger: _Ledger, strategy: Strategy, budget: Budget) -> bool:
    if ledger.best is None:
        return False
    if budget.performance_only:
        return True
    return ledger.best.accepted and budget.timeout == 0 and not strategy.finishes


def _tell(proposals: Generator[Recipe, Score, None], score: Score) -> Recipe | None:
    try:
        return proposals.send(score)
    except StopIteration:
        return None


def _status(best: Trial | None, exhausted: bool) -> Status:
    if best is not None and best.accepted:
        return "met"
    return "budget_exhausted" if exhausted else "not_met"
