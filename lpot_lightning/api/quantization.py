"""One post-training quantization, from conf to result; knows no Trainer."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import torch
from torch import nn

from lpot_lightning.api.judge import Judge
from lpot_lightning.api.objective import bytes_of
from lpot_lightning.api.options import Listener, Options
from lpot_lightning.api.preparation import calibrate, prepare
from lpot_lightning.api.ranking import Ranker
from lpot_lightning.api.result import TuningResult
from lpot_lightning.api.runner import Evaluation, Runner
from lpot_lightning.api.selection import select
from lpot_lightning.api.speed import measure_speedup
from lpot_lightning.api.workspace import (
    DEPLOY,
    RESULT,
    deploy_yaml,
    history_of,
    what_trials_depend_on,
)
from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import ConfError, EvaluationError, QuantizationError
from lpot_lightning.files import open_folder, write_file
from lpot_lightning.quantization import storage
from lpot_lightning.quantization.backend import BACKENDS, Backend, Prepared
from lpot_lightning.quantization.fingerprint import content_hash, fingerprint
from lpot_lightning.quantization.replace import put, replaced
from lpot_lightning.recipe import Op, Recipe
from lpot_lightning.tuning.history import History, Known
from lpot_lightning.tuning.loop import tune
from lpot_lightning.tuning.score import Criterion, Score
from lpot_lightning.tuning.space import Space, build_space
from lpot_lightning.tuning.strategies.strategy import Search
from lpot_lightning.tuning.strategies.table import find_strategy
from lpot_lightning.tuning.trial import Budget, Outcome, Trial
from lpot_lightning.version import VERSION


def find_backend(conf: Conf, say: Callable[[str], None]) -> Backend:
    """Return the backend of a conf, and say where a name stands for another one."""
    backend = BACKENDS[conf.model.framework]()
    if backend.name != conf.model.framework:
        say(
            f"`model.framework: {conf.model.framework}` is quantized by `{backend.name}`, which"
            " takes models with and without QuantStub as they are"
        )
    return backend


def quantize_model(
    model: nn.Module, conf: Conf, runner: Runner, options: Options, listener: Listener
) -> TuningResult:
    """Quantize ``model`` until the criterion of ``conf`` is met, or say how near it came.

    Args:
        model: in eval mode, float32, on the CPU. It is ours: it becomes the int8 model.
        conf: checked.
        runner: shows models data.
        options: see there.
        listener: see there.

    Raises:
        LpotError: of the kind that says what is wrong, before the first trial where possible.
    """
    return _Run(conf, runner, options, listener).go(model)


COLLECT_EVERY = 10
"""After how many trials their graphs are freed for certain."""


class _Run:
    """The steps of one run, in their order."""

    fp32: dict[str, str]
    fp32_hash: str
    baseline: Evaluation
    criterion: Criterion
    ranker: Ranker
    most: int

    def __init__(self, conf: Conf, runner: Runner, options: Options, listener: Listener) -> None:
        self.conf, self.runner, self.options, self.listener = conf, runner, options, listener
        self.backend = find_backend(conf, listener.say)
        self.ranks = options.ranks
        self.folder = options.workspace if self.ranks.rank == 0 else None
        asked = conf.tuning.exit_policy
        self.judge = Judge(
            runner,
            self.ranks,
            listener.say,
            gives_up=asked.max_trials > 1 and not asked.performance_only,
        )
        self.saved: Recipe | None = None
        self.tried = 0

    def go(self, model: nn.Module) -> TuningResult:
        say = self.listener.say
        model, prepared = prepare(model, self.backend, self.runner, self.options, say)
        self.fp32 = fingerprint(model)
        self.fp32_hash = content_hash(dict(nn.Module.state_dict(model)))
        self._space(self._ops(prepared))  # names that match nothing are told here
        self.baseline = self._judge_baseline(model)
        self.criterion = self._criterion()
        self.judge.give_up_by(self.criterion, self.baseline.accuracy)
        calibrate(model, prepared, self.runner, self.ranks, say)
        ops = self._ops(prepared)
        history = self._open_history()
        self.most = self._most_trials(len(ops))
        self._announce(self.baseline, len(ops))
        outcome = self._tune(model, prepared, self._space(ops), history)
        return self._finish(model, prepared, outcome)

    def _ops(self, prepared: Prepared) -> list[Op]:
        return select(prepared.ops, self.options.modules)

    def _space(self, ops: Sequence[Op]) -> Space:
        asked = self.conf.quantization
        space = build_space(ops, asked.model_wise, asked.op_wise, asked.default_qconfig)
        if not any(op.int8_configs for op in space.ops):
            raise ConfError(
                "no op is left that may be int8: `quantization.op_wise`, `quantization.model_wise`"
                " or `modules` keep all of them in fp32"
            )
        return space

    def _judge_baseline(self, model: nn.Module) -> Evaluation:
        found = self.judge.judge_fp32(model)
        if not -float("inf") < found.accuracy < float("inf"):
            raise EvaluationError(
                f"the fp32 model's `{self.runner.monitor}` is {found.accuracy}, so there is nothing"
                " to tune by; look at the weights, the validation data and the metric"
            )
        return found

    def _criterion(self) -> Criterion:
        asked = self.conf.tuning.accuracy_criterion
        relative = asked.relative is not None
        goal = asked.relative if asked.relative is not None else asked.absolute
        criterion = Criterion(float(goal or 0.0), relative, self.runner.higher_is_better)
        criterion.target(self.baseline.accuracy)  # a relative goal at a baseline of 0 is told here
        return criterion

    def _open_history(self) -> History:
        """Let rank 0 open the file; the others know the same trials and write nothing."""
        data = self.ranks.gather(content_hash(self.runner.calibration))
        opened: list[History] = []

        def open_and_tell() -> Known:
            opened.append(self._history_on_disk(data))
            return opened[0].known

        known = self.ranks.on_zero(open_and_tell)
        return opened[0] if opened else History.copied(known)

    def _history_on_disk(self, calibration_data: list[str]) -> History:
        if self.folder is not None:
            open_folder(self.folder)
        path = history_of(self.conf, self.folder)
        fingerprints = what_trials_depend_on(
            self.conf,
            modules=self.options.modules,
            monitor=[self.runner.monitor, self.runner.higher_is_better],
            weights=self.fp32_hash,
            calibration_data=calibration_data,
        )
        resume = self.conf.tuning.workspace.resume
        history = History.open(path, fingerprints, must_match=resume is not None)
        history.check_baseline(self.baseline.accuracy)
        for note in (history.repaired, history.archived):
            if note:
                self.listener.say(note)
        if history.trials:
            self.listener.say(f"going on after {len(history.trials)} finished trials in `{path}`")
        return history

    def _announce(self, baseline: Evaluation, ops: int) -> None:
        self.listener.say(
            f"fp32 `{self.runner.monitor}` = {baseline.accuracy:.4f}, one validation pass took"
            f" {_duration(baseline.seconds)}; at most {self.most} trials of {ops} ops are expected"
            f" to take {_duration(self.most * baseline.seconds)} or less"
        )

    def _most_trials(self, ops: int) -> int:
        policy = self.conf.tuning.exit_policy
        if policy.performance_only:
            return 1
        bounded = find_strategy(self.conf.tuning.strategy.name).finishes
        return min(policy.max_trials, ops.bit_length() + 5) if bounded else policy.max_trials

    def _tune(
        self, model: nn.Module, prepared: Prepared, space: Space, history: History
    ) -> Outcome:
        asked = self.conf.tuning
        for note in space.notes:
            self.listener.say(note)
        budget = asked.exit_policy
        self.ranker = Ranker(
            prepared, space.ops, asked.objective, history, self.ranks, self.listener.say
        )
        return tune(
            find_strategy(asked.strategy.name),
            space,
            lambda recipe: self._try(model, prepared, recipe),
            search=Search(
                self.ranker.rank,
                self.criterion,
                self.baseline.accuracy,
                asked.random_seed,
            ),
            budget=Budget(budget.max_trials, budget.timeout, budget.performance_only),
            history=history,
            cost=self.ranker.cost,
            on_trial=self.listener.trial,
            on_best=lambda trial: self._keep(model, prepared, trial),
            now=lambda: self.ranks.agreed(monotonic()),
            countdown=self.judge.countdown,
            run_in_full=lambda recipe: self._try(model, prepared, recipe, in_full=True),
        )

    def _try(
        self, model: nn.Module, prepared: Prepared, recipe: Recipe, *, in_full: bool = False
    ) -> Score:
        started = monotonic()
        self.tried += not in_full
        if self.tried % COLLECT_EVERY == 0:
            gc.collect()  # graphs are cycles, and beside a large heap Python lets them wait long
        parts = self.ranks.together(lambda: prepared.convert(recipe))
        with replaced(model, parts) as quantized:
            label = f"int8 trial {self.tried} of at most {self.most}"
            if in_full:
                label = "the best-looking int8 model, in full"
            score = self.judge.judge_int8(quantized, label, in_full=in_full)
        return dataclasses.replace(score, seconds=monotonic() - started)

    def _keep(self, model: nn.Module, prepared: Prepared, trial: Trial) -> None:
        """Write the best model so far; one that an earlier run found is written at the end."""
        if not trial.replayed:
            self._save(model, prepared, trial)

    def _save(self, model: nn.Module, prepared: Prepared, trial: Trial) -> None:
        self.ranks.on_zero(lambda: self._write(model, prepared, trial))
        self.saved = trial.recipe

    def _write(self, model: nn.Module, prepared: Prepared, trial: Trial) -> None:
        if self.folder is None:
            return
        with replaced(model, prepared.convert(trial.recipe)) as quantized:
            plain = self.backend.to_plain(quantized)
        configure = self._configure(prepared, trial)
        written = storage.save(self.folder, configure, plain)
        self.listener.saved(written, plain)

    def _configure(self, prepared: Prepared, trial: Trial) -> dict[str, Any]:
        asked = self.conf.tuning.accuracy_criterion
        described = prepared.describe(trial.recipe)
        return {
            "backend": self.backend.name,
            "framework": self.conf.model.framework,
            "model": self.conf.model.name,
            "approach": self.conf.quantization.approach,
            "versions": {"lpot_lightning": VERSION, "torch": str(torch.__version__)},
            "accuracy": {
                "monitor": self.runner.monitor,
                "higher_is_better": self.runner.higher_is_better,
                "criterion": {
                    "relative" if asked.relative is not None else "absolute": self.criterion.goal
                },
                "baseline": self.baseline.accuracy,
                "int8": trial.score.accuracy,
                "met": trial.accepted,
            },
            "calibration": {"samples": self.runner.samples},
            **described,
            "fp32_model": self.fp32,
        }

    def _finish(self, model: nn.Module, prepared: Prepared, outcome: Outcome) -> TuningResult:
        best = outcome.best
        if best is None or best.score.accuracy is None:
            reasons = {trial.score.failure for trial in outcome.trials}
            raise QuantizationError(f"every trial failed: {'; '.join(map(str, reasons))}")
        if self.saved != best.recipe:
            self._save(model, prepared, best)
        parts = prepared.convert(best.recipe)
        self.listener.say("measuring the speed-up")
        speedup = measure_speedup(self.runner, model, parts)
        if speedup < 1:
            self.listener.say(
                f"int8 is slower than fp32 here ({speedup:.2f}x): for small layers or batches the"
                " work saved is less than the work of going to int8 and back"
            )
        fp32_bytes = bytes_of(self.backend.to_plain(model))
        put(model, parts)
        size_ratio = fp32_bytes / bytes_of(self.backend.to_plain(model))
        wrong = set(prepared.excluded)
        result = TuningResult(
            status=outcome.status,
            monitor=self.runner.monitor,
            criterion=self.criterion,
            baseline=self.baseline.accuracy,
            accuracy=best.score.accuracy,
            int8_ops=best.recipe.int8_ops,
            fp32_ops=tuple(op for op in best.recipe.fp32_ops if op not in wrong),
            not_quantizable=dict(prepared.excluded),
            trials=outcome.trials,
            evaluations=1 + sum(trial.score.evaluations for trial in outcome.trials),
            speedup=speedup,
            size_ratio=size_ratio,
            workspace=self.options.workspace,
            held=model.requires_grad_(False).eval(),
        )
        if self.folder is not None:
            write_file(self.folder / DEPLOY, deploy_yaml(self.conf))
            write_file(self.folder / RESULT, result.to_json())
        return result


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
