"""What a tuning run came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from typing_extensions import override

from lpot_lightning.artifacts.storage import CONFIGURE, WEIGHTS
from lpot_lightning.deploy.export_records import read_exports
from lpot_lightning.errors import QuantizationError
from lpot_lightning.machine.columns import aligned
from lpot_lightning.machine.files import shown
from lpot_lightning.machine.numbers import shown_number
from lpot_lightning.machine.typed import look_up_hints
from lpot_lightning.recipe import Rung
from lpot_lightning.report.facts import Facts, RunState, TuningFacts
from lpot_lightning.report.numbers import change_of_size
from lpot_lightning.runs.objective import shown_as
from lpot_lightning.runs.paying_result import NotPaying, OpTimes, in_ms
from lpot_lightning.runs.pruning_result import pruning_facts_in
from lpot_lightning.runs.reporting.op_facts import op_facts
from lpot_lightning.runs.reporting.report_file import files_in, now
from lpot_lightning.runs.result import (
    Result,
    as_tuple,
    each,
    or_none,
    pair_or_none,
    read_as,
    values,
)
from lpot_lightning.timing.ratio import Ratio, Spread, as_speedup
from lpot_lightning.training_log import TrainingLog
from lpot_lightning.tuning.about import About
from lpot_lightning.tuning.causes import Cause
from lpot_lightning.tuning.in_words import few_of
from lpot_lightning.tuning.pareto import pareto
from lpot_lightning.tuning.repair import Repair
from lpot_lightning.tuning.sensitivity import Sensitivity
from lpot_lightning.tuning.trial import Status, Trial

_VERDICTS: dict[Status, str] = {
    "met": "the goal is met",
    "not_met": "the goal is not met",
    "budget_exhausted": "the goal is not met, more trials may help",
}


@dataclass(frozen=True, kw_only=True, repr=False)
class TuningResult(Result):
    """What a tuning run came to.

    Args:
        status: ``"met"``, ``"not_met"`` or ``"budget_exhausted"``: whether the model is good
            enough, and if not, whether more trials might have helped.
        monitor: name of the metric that was tuned for.
        criterion: how much worse than the baseline was allowed.
        baseline: the fp32 model's accuracy.
        accuracy: the int8 model's.
        int8_ops: ops that are int8.
        fp32_ops: quantizable ops that stay in floating point, for whatever reason.
        not_paying: those of ``fp32_ops`` that are so because int8 is slower, and what was measured.
        op_times: seconds of ops in one step, in int8 and in fp32; of those that were timed.
        asked_fp32: those of ``fp32_ops`` that the conf or ``modules`` keep so.
        rungs: what each op is: ``"int8"``, ``"dynamic int8"``, ``"weight-only int8"``, ``"bf16"``
            or ``"fp32"``.
        not_quantizable: what cannot be int8, with the reason.
        trials: what was tried, each with its recipe and score.
        evaluations: validation batches seen by the baseline and all trials, those of the runs
            that this one went on from included, divided by the batches of one full pass.
        speedup: seconds of the forward work of ``validation_step`` on one calibration batch, fp32
            over int8, run in turns: the median of the ratios of all pairs.
        speedup_spread: two ratios between which it is, 95 of 100 times: where 1 is between them,
            nobody knows which is faster. ``None`` where fewer than three pairs were run.
        size_ratio: bytes of the state, fp32 over int8.
        workspace: where the files are; ``None`` where none were asked for.
        objective: what ``trials[…].score.objective`` counts: ``"performance"`` the seconds of one
            ``validation_step``, ``"modelsize"`` the bytes of the state, ``"footprint"`` the bytes
            that a step holds at its peak.
        sensitivities: how much each op hurts alone in int8, before any repair, rounded as the model
            is: as trained, or not; empty where nothing had to be ranked.
        repairs: what was done to int8 ops of the model, and costs no speed.
        causes: why ops are hurt by int8, or not int8, and what can be done: of the worst ops that
            were ranked, of those in fp32 or ``not_quantizable`` for a known reason, and of modules
            that are no graphs, by their names.
        floats: of what type attention and products of activations are: ``"fp32"`` or ``"bf16"``.
        training: how the training for int8 went, where there was one in a Trainer.
        about: what was asked for, and where it ran; ``None`` in a result of an earlier version.
        held: the ``model``; ``None`` in a result that was read from its file.
        origin: what the model is called with, and who judges it; unknown in such a result.
    """

    _kind, _before = "int8", "fp32"
    _files = (CONFIGURE, WEIGHTS)
    _gone = QuantizationError

    status: Status
    int8_ops: tuple[str, ...]
    fp32_ops: tuple[str, ...]
    not_quantizable: Mapping[str, str]
    trials: tuple[Trial, ...]
    evaluations: float
    speedup: float
    size_ratio: float
    speedup_spread: Spread | None = None
    objective: str = "performance"
    not_paying: Mapping[str, NotPaying] = field(default_factory=dict)
    op_times: Mapping[str, OpTimes] = field(default_factory=dict)
    asked_fp32: tuple[str, ...] = ()
    rungs: Mapping[str, str] = field(default_factory=dict)
    sensitivities: tuple[Sensitivity, ...] = ()
    repairs: tuple[Repair, ...] = ()
    floats: str = "fp32"
    training: TrainingLog | None = None
    about: About | None = None
    causes: Mapping[str, Cause] = field(default_factory=dict)

    @property
    def pareto(self) -> tuple[Trial, ...]:
        """The trials that no other beats in both accuracy and objective, least objective first.

        Example::

            for trial in result.pareto:
                print(trial.score.accuracy, trial.score.objective, trial.recipe.fp32_ops)
        """
        return pareto(self.trials, self.criterion)

    @override
    def facts(self, folder: Path | None) -> Facts:
        """Return what a report tells of the run."""
        return Facts(
            title="int8 model" if self.about is None else self.about.model,
            state=RunState.ENDED,
            now=now(),
            folder="" if folder is None else shown(folder),
            tuning=self._tuning_facts(),
            pruning=None if folder is None else pruning_facts_in(folder),
            exports=() if folder is None else read_exports(folder),
            files=() if folder is None else files_in(folder),
        )

    def _tuning_facts(self) -> TuningFacts:
        usual = dict.fromkeys(self.fp32_ops, Rung.FP32) | dict.fromkeys(self.int8_ops, Rung.STATIC)
        rungs = usual | {op: Rung(name) for op, name in self.rungs.items()}
        return TuningFacts(
            monitor=self.monitor,
            criterion=self.criterion,
            baseline=self.baseline,
            accuracy=self.accuracy,
            status=self.status,
            trials=self.trials,
            best=self._taken,
            pareto=tuple(one.number for one in self.pareto),
            objective=self.objective,
            ops=op_facts(
                rungs,
                self.why,
                sensitivities=self.sensitivities,
                times=self.op_times,
                repairs=self.repairs,
                causes=self.causes,
            ),
            excluded=self.not_quantizable,
            causes={name: one for name, one in self.causes.items() if name not in rungs},
            evaluations=self.evaluations,
            speed=Ratio(self.speedup, self.speedup_spread),
            size_ratio=self.size_ratio,
            floats=self.floats,
            training=self.training,
            about=self.about,
        )

    @property
    def _taken(self) -> int | None:
        """The number of the trial whose model this is."""
        mine = {*self.int8_ops}
        same = (
            one.number
            for one in reversed(self.trials)
            if one.score.in_full and one.score.accuracy == self.accuracy
            if {*one.recipe.int8_ops} == mine
        )
        return next(same, None)

    def table(self) -> str:
        """Return the run as a table for people."""
        return aligned(self._rows())

    def _rows(self) -> list[tuple[str, str]]:
        rows = [
            *self._accuracy_rows(),
            ("status", self.status),
            ("validation passes", f"{self.evaluations:.1f}"),
            ("ops int8 / fp32", f"{len(self.int8_ops)} / {len(self.fp32_ops)}"),
            *self._on_other_rungs(),
            ("speed-up", as_speedup(self.speedup, self.speedup_spread)),
            ("size", "x ".join(change_of_size(self.size_ratio))),
        ]
        if self.floats != "fp32":
            rows.append(("attention, products", self.floats))
        if self.repairs:
            mended = tuple(dict.fromkeys(one.op for one in self.repairs))
            rows.append(("repaired", few_of(mended)))
        if others := tuple(op for op in self.fp32_ops if op not in self.not_paying):
            rows.append(("in fp32", few_of(others)))
        if self.not_paying:
            rows.append(("in fp32, int8 is slower", few_of(tuple(self.not_paying))))
        if len(self.pareto) > 1:
            rows += self._choices()
        if self.not_quantizable:
            rows.append(("not quantizable", few_of(tuple(self.not_quantizable))))
        if self.workspace is not None:
            rows.append(("workspace", shown(self.workspace)))
        return rows

    def _in_short(self) -> list[str]:
        speed = as_speedup(self.speedup, self.speedup_spread)
        return [
            self._what_came(_VERDICTS[self.status]),
            f"{len(self.int8_ops)} ops int8, {len(self.fp32_ops)} fp32; speed-up {speed},"
            f" {'x '.join(change_of_size(self.size_ratio))}",
            *self._where(),
        ]

    def _on_other_rungs(self) -> list[tuple[str, str]]:
        """Return a row for each rung between static int8 and fp32 that an op is on."""
        on = {rung: [op for op, name in self.rungs.items() if name == rung.value] for rung in Rung}
        return [
            (rung.value, f"{len(ops)}: {few_of(ops)}")
            for rung, ops in on.items()
            if ops and rung not in (Rung.STATIC, Rung.FP32)
        ]

    def ops_table(self) -> str:
        """Return for each op its precision, what it takes in both, and why it is what it is.

        Times are milliseconds of one step on a calibration batch, of an op on its first rung with
        what its kernel does besides and with its way to integers and back; ``-`` where it was not
        timed. ``causes`` have the reasons at length.
        """
        rows = [("op", "precision", "ms in int8", "in fp32", "why")]
        for op in sorted({*self.int8_ops, *self.fp32_ops, *self.rungs}):
            times = self.op_times.get(op)
            shown = ("-", "-") if times is None else (in_ms(times.int8), in_ms(times.fp32))
            usual = Rung.STATIC if op in self.int8_ops else Rung.FP32
            rows.append((op, self.rungs.get(op, usual.value), *shown, self.why(op)))
        return aligned(rows, right=(2, 3))

    def why(self, op: str) -> str:
        """Return why an op is what it is; ``""`` where there is nothing to say."""
        if op in self.not_paying:
            return self.not_paying[op].why
        if op in self.asked_fp32:
            return "asked for"
        cause = "" if op not in self.causes else self.causes[op].in_short
        if op in self.fp32_ops or self._went_down(op):
            return f"for the accuracy: {cause}" if cause else "for the accuracy"
        if cause:
            return cause
        times = self.op_times.get(op)
        return "" if times is None or times.int8 < times.fp32 else "no faster in int8"

    def _went_down(self, op: str) -> bool:
        """Whether an op is on a lower rung than in the first trial, whose times are known."""
        rungs = [one.value for one in Rung]
        first = self._first_rungs.get(op)
        now = self.rungs.get(op)
        return first is not None and now is not None and rungs.index(now) > rungs.index(first.value)

    @cached_property
    def _first_rungs(self) -> Mapping[str, Rung]:
        return self.trials[0].recipe.rungs if self.trials else {}

    def _choices(self) -> list[tuple[str, str]]:
        """Return the Pareto list as rows, for people who would choose otherwise."""
        return [
            (
                f"trial {trial.number}",
                f"{self.monitor} {shown_number(trial.score.accuracy or 0.0)},"
                f" {shown_as(trial.score.objective or 0.0, self.objective)},"
                f" {len(trial.recipe.fp32_ops)} fp32",
            )
            for trial in self.pareto
        ]


look_up_hints(TuningResult)


def read_result(path: Path) -> TuningResult:
    """Return what ``TuningResult.to_json`` wrote; its ``model`` is not there.

    Raises:
        ArtifactError: if the file cannot be read, or is not one of ours.
    """
    parts: dict[str, Callable[[Any], Any]] = {
        "trials": each(Trial.from_dict),
        "sensitivities": each(Sensitivity.from_dict),
        "repairs": each(lambda plain: Repair(**plain)),
        "int8_ops": as_tuple,
        "fp32_ops": as_tuple,
        "speedup_spread": pair_or_none,
        "not_paying": values(NotPaying.from_dict),
        "op_times": values(lambda plain: OpTimes(**plain)),
        "asked_fp32": as_tuple,
        "causes": values(Cause.from_dict),
        "rungs": values(lambda name: Rung(name).value),
        "training": or_none(TrainingLog.from_dict),
        "about": or_none(About.from_dict),
    }
    return read_as(TuningResult, path, parts)
