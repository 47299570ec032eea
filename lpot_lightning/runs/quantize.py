"""One quantization, from a trained model and a conf to the result; knows no Trainer."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Generator
from contextlib import closing
from time import monotonic
from typing import Any

from torch import nn

from lpot_lightning.artifacts.traits import Traits
from lpot_lightning.conf.schema import Conf, StrategyConf
from lpot_lightning.deploy.origin import Origin
from lpot_lightning.deploy.recording import CallRecorder, roots_with
from lpot_lightning.errors import EvaluationError
from lpot_lightning.judging.protocols import Evaluation, Feed, Judge
from lpot_lightning.judging.screened_judge import ScreenedJudge
from lpot_lightning.machine.columns import on_one_line
from lpot_lightning.machine.ranks import Ranks
from lpot_lightning.module.stand_in import computing, replaced
from lpot_lightning.quantization.backend import BACKENDS, ENGINE, Backend, Prepared
from lpot_lightning.recipe import FP32, Op, OpConfig, Recipe
from lpot_lightning.runs.best_model import Keeper
from lpot_lightning.runs.job import Job
from lpot_lightning.runs.objective import measured
from lpot_lightning.runs.op_selection import space_of
from lpot_lightning.runs.options import Listener, Options
from lpot_lightning.runs.paying import find_paying
from lpot_lightning.runs.paying_result import Paying
from lpot_lightning.runs.preparation import Say, calibrate, prepare
from lpot_lightning.runs.ranker import Ranker
from lpot_lightning.runs.reporting.reporter import Reporter
from lpot_lightning.runs.run_history import open_history
from lpot_lightning.runs.speed import choose_floats
from lpot_lightning.runs.trained import Trained
from lpot_lightning.runs.tuning_result import TuningResult
from lpot_lightning.tuning.history import History
from lpot_lightning.tuning.ladder import most_steps
from lpot_lightning.tuning.loop import tune
from lpot_lightning.tuning.score import Criterion, Score
from lpot_lightning.tuning.space import Space
from lpot_lightning.tuning.strategies.auto import most_trials
from lpot_lightning.tuning.strategies.strategy import SearchContext, Strategy
from lpot_lightning.tuning.strategies.table import find_strategy
from lpot_lightning.tuning.trial import Budget, Outcome, Trial


def quantize_model(
    model: nn.Module,
    conf: Conf,
    judge: Judge,
    feed: Feed,
    options: Options,
    listener: Listener,
    trained: Trained | None = None,
) -> TuningResult:
    """Quantize ``model`` until the criterion of ``conf`` is met, or say how near it came.

    Args:
        model: in eval mode, float32, on the CPU. It is ours: it becomes the int8 model.
        conf: checked.
        judge: says how good models are.
        feed: shows them data.
        options: see there.
        listener: see there.
        trained: what a training for int8 came to: besides what calibration makes of the model,
            each op may round as it was trained.

    Raises:
        LpotError: of the kind that says what is wrong, before the first trial where possible.
    """
    return _Run(conf, judge, feed, options, listener, trained).go(model)


COLLECT_EVERY = 10
"""After how many trials their graphs are freed for certain."""


class _Run:
    """The steps of one run, in their order."""

    def __init__(
        self,
        conf: Conf,
        judge: Judge,
        feed: Feed,
        options: Options,
        listener: Listener,
        trained: Trained | None,
    ) -> None:
        self.conf, self.feed, self.options, self.listener = conf, feed, options, listener
        self.trained = trained
        self.strategy = find_strategy(conf.tuning.strategy.name)
        self.ranks = options.ranks
        asked = conf.tuning.exit_policy
        self.judge = ScreenedJudge(
            judge,
            self.ranks,
            listener.say,
            gives_up=not (self.strategy.in_full or asked.performance_only or asked.max_trials == 1),
        )
        self.tried = self.most = 0
        self.heard: list[Trial] = []
        self.calibrated: Recipe | None = None

    def go(self, model: nn.Module) -> TuningResult:
        say, trained = self.listener.say, self.trained
        backend, model, prepared, traits = self._prepared(model)
        self._space(prepared, model)  # names that match nothing are told here
        found = self._judge_baseline(model)
        baseline = self._baseline(found)
        asked = self.conf.tuning.accuracy_criterion
        criterion = Criterion.of(asked, found.monitor.higher_is_better)
        criterion.target(baseline)  # a relative goal at a baseline of 0 is told here
        if baseline == found.accuracy:  # else a trial would be compared with another model's pass
            self.judge.give_up_by(criterion, found)
        roots = roots_with(traits.signatures, [op.name for op in prepared.ops])
        recorder = CallRecorder(roots)
        calibrate(model, prepared, self.feed, self.ranks, self._say_of_ops, recorder)
        model.requires_grad_(False)  # as it is in the end: graphs of trials are those of the result
        space = self._space(prepared, model)
        job = Job(
            conf=self.conf,
            feed=self.feed,
            monitor=found.monitor,
            options=self.options,
            listener=self.listener,
            backend=backend,
            model=model,
            prepared=prepared,
            baseline=baseline,
            fp32_passes=self.judge.fp32_passes,
            criterion=criterion,
            trained=trained,
            traits=traits,
            origin=Origin(root=recorder.root, calls=recorder.calls),
        )
        history = open_history(job)
        self.most = self._most_trials(space)
        self.calibrated = space.calibrated()
        self._announce(found, len(space.ops))
        for note in space.notes:
            say(note)
        choose_floats(job, space, history)
        paying = find_paying(job, space, history, found.seconds)
        keeper, ranker = Keeper(job, space, paying, anew=history.anew), Ranker(job, space, history)
        self.reporter = Reporter(job, history)
        with self.reporter.told_of_stops():
            outcome = self._tune(job, space, history, keeper, ranker, paying)
            result = keeper.finish(outcome, ranker)
        self.reporter.end(result)
        return result

    def _prepared(self, model: nn.Module) -> tuple[Backend, nn.Module, Prepared, Traits]:
        backend, state = BACKENDS[ENGINE](), None if self.trained is None else self.trained.state
        say = self._say_of_ops
        return backend, *prepare(model, backend, self.feed, self.options, say, trained=state)

    @property
    def _say_of_ops(self) -> Say:
        """Take what was said before a training, where there was one."""
        return self.listener.say if self.trained is None else lambda _: None

    def _space(self, prepared: Prepared, model: nn.Module) -> Space:
        space = space_of(prepared, self.conf, self.options.modules, model)
        if self.trained is None or self.strategy.name == "auto":
            return space
        return _first_or_fp32(space)  # LPOT's orders are of a training that has one way to be int8

    def _judge_baseline(self, model: nn.Module) -> Evaluation:
        found = self.judge.judge_fp32(model)
        if not -float("inf") < found.accuracy < float("inf"):
            raise EvaluationError(
                f"the fp32 model's `{found.monitor.name}` is {found.accuracy}, so there is nothing"
                " to tune by; look at the weights, the validation data and the metric"
            )
        for note in found.monitor.notes:
            self.listener.say(note)
        return found

    def _baseline(self, found: Evaluation) -> float:
        """Return what int8 is compared with: of a training, the best that is known of fp32."""
        if self.options.dense is not None:
            self.listener.say(
                f"the pruned model's `{found.monitor.name}` = {found.accuracy:.4f}, before it was"
                f" pruned {self.options.dense:.4f}: that is the baseline"
            )
            return self.options.dense
        if self.trained is None:
            return found.accuracy
        known = self.trained.baseline(found.accuracy, found.monitor.higher_is_better)
        self.listener.say(
            f"with the trained weights and no rounding `{found.monitor.name}` ="
            f" {found.accuracy:.4f}; {known.why}: the baseline is {known.accuracy:.4f}"
        )
        return known.accuracy

    def _announce(self, baseline: Evaluation, ops: int) -> None:
        self.listener.say(
            f"fp32 `{on_one_line(baseline.monitor.name)}` = {baseline.accuracy:.4f},"
            f" one validation pass took {_duration(baseline.seconds)}; at most {self.most} trials"
            f" of {ops} ops are expected to take {_duration(self.most * baseline.seconds)} or less"
        )

    def _most_trials(self, space: Space) -> int:
        policy = self.conf.tuning.exit_policy
        if policy.performance_only:
            return 1
        steps = sum(map(most_steps, space.ops))
        bounded = min(policy.max_trials, most_trials(steps, trained=self.trained is not None))
        return bounded if self.strategy.finishes else policy.max_trials

    def _tune(
        self,
        job: Job,
        space: Space,
        history: History,
        keeper: Keeper,
        ranker: Ranker,
        paying: Paying,
    ) -> Outcome:
        asked = self.conf.tuning
        budget = asked.exit_policy
        return tune(
            agreed(self.strategy, self.ranks),
            space,
            lambda recipe: self._try(job, recipe),
            search=SearchContext(
                rank=ranker.rank,
                criterion=job.criterion,
                baseline=job.baseline,
                seed=asked.random_seed,
                repair=ranker.repair,
                cost=ranker.cost,
                share=ranker.share,
                not_paying=tuple(paying.slower),
                none_pays=paying.all_slower,
                **_weights(asked.strategy),
            ),
            budget=Budget(budget.max_trials, budget.timeout, budget.performance_only),
            history=history,
            cost=ranker.cost,
            on_trial=lambda trial: self._hear(trial, job),
            on_best=lambda trial: self._keep(keeper, trial),
            now=lambda: self.ranks.agreed(monotonic()),
            countdown=self.judge.countdown,
            run_in_full=lambda recipe: self._try(job, recipe, in_full=True),
        )

    def _keep(self, keeper: Keeper, trial: Trial) -> None:
        keeper.keep(trial)
        self.reporter.choose(trial)

    def _hear(self, trial: Trial, job: Job) -> None:
        self.listener.trial(trial, job.monitor.name)
        self.reporter.hear(trial)
        if self.trained is not None and self.most > 1:
            self.heard.append(trial)
            self._say_of_training(job)

    def _say_of_training(self, job: Job) -> None:
        """Say how a training did, once it is judged by its strategy."""
        first, *others = self.heard
        last = self.heard[-1]
        if others and self._needs_no_training(last) and self._is_best(last, job):
            self.listener.say(
                "PTQ of the trained weights is better than the trained rounding:"
                f" `{job.monitor.name}` = {_shown(last)} against {_shown(first)}, taken"
            )
        both = self.strategy.name == "auto" and first.recipe != self.calibrated
        if len(self.heard) == 1 + both and not any(one.accepted for one in self.heard):
            self.listener.say(
                "int8 as it was trained misses the criterion: going on with ops in fp32, in the"
                f" order of strategy `{self.strategy.name}`"
            )

    def _needs_no_training(self, trial: Trial) -> bool:
        """Whether it is what PTQ of the trained weights tries, before ops fall back."""
        as_much = {*trial.recipe.fp32_ops} == {*self.heard[1].recipe.fp32_ops}
        return as_much and not trial.recipe.is_trained

    def _is_best(self, trial: Trial, job: Job) -> bool:
        others = (one for one in self.heard if one is not trial)
        return all(trial.beats(one, job.criterion, _fewest) for one in others)

    def _try(self, job: Job, recipe: Recipe, *, in_full: bool = False) -> Score:
        started = monotonic()
        self.tried += not in_full
        if self.tried % COLLECT_EVERY == 0:
            gc.collect()  # graphs are cycles, and beside a large heap Python lets them wait long
        parts = self.ranks.together(lambda: job.prepared.convert(recipe))
        graphs = job.prepared.graphs(job.model)
        with replaced(job.model, parts), computing(job.model, graphs) as quantized:
            label = f"int8 trial {self.tried} of at most {self.most}"
            if in_full:
                label = "the best-looking int8 model, in full"
            score = self.judge.judge_int8(quantized, label, in_full=in_full)
            found = self.ranks.together(lambda: measured(job, quantized, score))
        objective = self.ranks.agreed(found)
        return dataclasses.replace(score, seconds=monotonic() - started, objective=objective)


def _fewest(recipe: Recipe) -> float:
    return len(recipe.fp32_ops)


def _shown(trial: Trial) -> str:
    accuracy = trial.score.accuracy
    return "none" if accuracy is None else f"{accuracy:.4f}"


def _first_or_fp32(space: Space) -> Space:
    """Return a space in which each op has one way to be int8."""
    ops = (
        dataclasses.replace(op, configs=(*op.int8_configs[:1], *_fp32_of(op))) for op in space.ops
    )
    return dataclasses.replace(space, ops=tuple(ops))


def _fp32_of(op: Op) -> tuple[OpConfig, ...]:
    return (FP32,) if len(op.int8_configs) < len(op.configs) else ()


def _weights(asked: StrategyConf) -> dict[str, Any]:
    """Return the weights that are given; the search knows LPOT's defaults."""
    given = {"accuracy_weight": asked.accuracy_weight, "latency_weight": asked.latency_weight}
    return {name: weight for name, weight in given.items() if weight is not None}


def agreed(strategy: Strategy, ranks: Ranks) -> Strategy:
    """Return the strategy with the proposals of rank 0 in all processes.

    Their CPUs may differ in last bits, and what is drawn from those in more.
    """

    def search(space: Space, asked: SearchContext) -> Generator[Recipe, Score, None]:
        with closing(strategy.search(space, asked)) as proposals:
            recipe = ranks.agreed(next(proposals, None))
            while recipe is not None:
                score = yield recipe
                try:
                    own: Recipe | None = proposals.send(score)
                except StopIteration:
                    own = None
                recipe = ranks.agreed(own)

    return dataclasses.replace(strategy, search=search)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
