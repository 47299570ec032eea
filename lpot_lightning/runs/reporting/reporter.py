"""The report of a run that goes on, written anew after each trial."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lpot_lightning.artifacts.earlier import REPORT
from lpot_lightning.machine.files import shown
from lpot_lightning.recipe import Recipe, Rung
from lpot_lightning.report.facts import Facts, OpFacts, PruningFacts, RunState, TuningFacts
from lpot_lightning.runs.job import Job
from lpot_lightning.runs.paying_result import Paying
from lpot_lightning.runs.pruning_result import pruning_facts_in
from lpot_lightning.runs.reporting.op_facts import op_facts
from lpot_lightning.runs.reporting.report_file import ReportWriter, files_in, now, state_after
from lpot_lightning.runs.tuning_result import TuningResult
from lpot_lightning.training_log import TrainingLog
from lpot_lightning.tuning.about import About
from lpot_lightning.tuning.causes import Cause
from lpot_lightning.tuning.history import Findings, History
from lpot_lightning.tuning.pareto import pareto
from lpot_lightning.tuning.repair import Repair, repairs_in
from lpot_lightning.tuning.score import Criterion
from lpot_lightning.tuning.sensitivity import Sensitivity
from lpot_lightning.tuning.trial import Trial


class Reporter:
    """Keeps the report of a job up to date; in all processes but the first it does nothing.

    Args:
        job: see there.
        history: of its trials; what the run was asked for is kept in it.
    """

    def __init__(self, job: Job, history: History) -> None:
        self._job, self._history = job, history
        self._writer = ReportWriter(None if job.folder is None else job.folder / REPORT)
        self._pruning: PruningFacts | None = None
        self._trials: dict[int, Trial] = {}
        self._best: Trial | None = None
        self._keep("about", {"about": job.about.to_dict()})
        if job.trained is not None and job.trained.log is not None:
            self._keep("training", {"log": job.trained.log.to_dict()})

    def _keep(self, kind: str, content: Mapping[str, Any]) -> None:
        known = self._history.finding(kind, "")
        if known is None or any(known.get(name) != one for name, one in content.items()):
            self._history.keep(kind, "", content)

    @contextmanager
    def told_of_stops(self) -> Iterator[None]:
        """Report that a run goes on, and if it is stopped, by an error or a signal, that, too."""
        self._writer.write(self._begun)
        try:
            yield
        except BaseException as error:
            state, notes = state_after(error)
            self._writer.write(lambda: self._so_far(state, *notes))
            raise

    def _begun(self) -> Facts:
        assert self._job.folder is not None
        self._pruning = pruning_facts_in(self._job.folder)
        return self._so_far(RunState.GOING_ON)

    def hear(self, trial: Trial) -> None:
        """Report a trial that is over; one of an earlier run only with the next one."""
        self._trials[trial.number] = trial  # one that was ended early may be judged again
        if not trial.replayed:
            self._writer.write(lambda: self._so_far(RunState.GOING_ON))

    def choose(self, trial: Trial) -> None:
        """Remember which trial is the best so far; the next report tells."""
        self._best = trial

    def end(self, result: TuningResult) -> None:
        """Report what the run came to."""
        self._writer.write(lambda: result.facts(self._folder))

    @property
    def _folder(self) -> Path:
        assert self._job.folder is not None
        return self._job.folder

    def _so_far(self, state: RunState, *notes: str) -> Facts:
        job = self._job
        tuning = facts_so_far(
            job.about,
            self._history.baseline,
            self._trials.values(),
            self._history.findings,
            best=self._best,
            excluded=job.prepared.excluded,
        )
        return Facts(
            title=job.about.model,
            state=state,
            now=now(),
            folder=shown(self._folder),
            tuning=tuning,
            pruning=self._pruning,
            files=files_in(self._folder),
            notes=notes,
        )


def facts_so_far(
    about: About,
    baseline: float | None,
    trials: Iterable[Trial],
    findings: Findings,
    *,
    best: Trial | None,
    excluded: Mapping[str, str] | None = None,
) -> TuningFacts:
    """Return what is known of a search that has not ended.

    Args:
        about: what was asked for.
        baseline: accuracy of the fp32 model.
        trials: those that are over.
        findings: of their history.
        best: the trial whose model is on disk.
        excluded: what cannot be int8, where that is known.
    """
    tried = tuple(trials)
    criterion = Criterion(about.goal, about.relative, about.higher_is_better)
    return TuningFacts(
        monitor=about.monitor,
        criterion=criterion,
        baseline=baseline,
        accuracy=None if best is None else best.score.accuracy,
        trials=tried,
        best=None if best is None else best.number,
        pareto=tuple(one.number for one in pareto(tried, criterion)),
        objective=about.objective or "performance",
        ops=_ops(best or next(iter(tried), None), tried, findings, excluded or {}),
        excluded=excluded or {},
        training=_training(findings),
        about=about,
    )


def _ops(
    best: Trial | None, trials: tuple[Trial, ...], findings: Findings, excluded: Mapping[str, str]
) -> tuple[OpFacts, ...]:
    if best is None:
        return ()
    rungs, first = best.recipe.rungs, trials[0].recipe.rungs
    kind = best.recipe.is_trained
    others = {one.recipe.key for one in trials if one.recipe.is_trained is not kind}
    slower = _paying(findings).slower

    def why(op: str) -> str:
        if op in slower:
            return slower[op].why
        if rungs[op] is not Rung.FP32:
            return ""
        always = first.get(op) is Rung.FP32
        return "in fp32 from the first trial on" if always else "for the accuracy"

    return op_facts(
        {op: rung for op, rung in rungs.items() if op not in excluded},
        why,
        sensitivities=_ranking(findings, others),
        times=_paying(findings).times,
        repairs=_repairs(findings, best.recipe),
        causes=_causes(findings, others),
    )


def _paying(findings: Findings) -> Paying:
    found = _first(findings, "paying")
    return Paying() if found is None else Paying.from_dict(found)


def _first(findings: Findings, kind: str) -> Mapping[str, Any] | None:
    """Return the first finding of a kind."""
    return next((one for (its, _), one in findings.items() if its == kind), None)


def _ranking(findings: Findings, others: Collection[str]) -> list[Sensitivity]:
    """Return the first ranking of a recipe that rounds as the best one: as trained, or not."""
    of = ((key, one) for (kind, key), one in findings.items() if kind == "ranking")
    found = next((one for key, one in of if key not in others), None)
    return [] if found is None else [Sensitivity.from_dict(one) for one in found["ops"]]


def _causes(findings: Findings, others: Collection[str]) -> dict[str, Cause]:
    """Return why the ops of that ranking hurt, if it was the first of all."""
    of = ((key, one) for (kind, key), one in findings.items() if kind == "causes")
    found = next((one for key, one in of if key not in others), None)
    return {} if found is None else {op: Cause.from_dict(one) for op, one in found["ops"].items()}


def _repairs(findings: Findings, recipe: Recipe) -> tuple[Repair, ...]:
    """Return what was repaired and is so in ``recipe``."""
    return repairs_in(
        recipe,
        (
            (Recipe.from_dict(one["repaired"]), [Repair(**each) for each in one["repairs"]])
            for (kind, _), one in findings.items()
            if kind == "repair"
        ),
    )


def _training(findings: Findings) -> TrainingLog | None:
    found = findings.get(("training", ""))
    return None if found is None else TrainingLog.from_dict(found["log"])
