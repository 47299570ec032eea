"""Judges models: fp32 in full, a trial as long as it is worth it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic

from torch import nn

from lpot_lightning.judging.protocols import Evaluation, Judge
from lpot_lightning.machine.ranks import Ranks
from lpot_lightning.tuning.countdown import Countdown, OutOfTime
from lpot_lightning.tuning.score import Criterion, Score
from lpot_lightning.tuning.screening import Curve, Pass, Recorder, Screen, Unseen


class Abandoned(Exception):
    """This pass goes no further."""


@dataclass(kw_only=True)
class _Watch:
    """Ends a pass that is hopeless, or has no time left; each process decides by its own part."""

    countdown: Countdown
    curve: Curve | None
    screen: Screen | None
    batches: int = 0
    late: bool = False
    estimate: float | None = None
    fault: str | None = None

    def __call__(self, seen: Pass) -> None:
        self.batches = seen.batches
        self.late = self.countdown.is_over()
        if not self.late:
            self._look(seen)
        if self.late or self.estimate is not None:
            raise Abandoned

    def _look(self, seen: Pass) -> None:
        point = self.curve.points.get(seen.batches) if self.curve else None
        if point is None or self.screen is None or self.fault is not None:
            return
        if point.checksum != seen.checksum:
            self.fault = "its batches are not those that the fp32 model was judged by"
            return
        try:
            if partial := seen.partial():
                self.estimate = self.screen.estimate(seen.batches, partial)
        except Unseen as error:
            self.fault = str(error)


class ScreenedJudge:
    """Judges the models of one run.

    Args:
        judge: says how good a model is.
        ranks: the processes that judge together; they come to the same verdict.
        say: takes one line for people.
        gives_up: whether trials that will miss the goal are ended early.

    Attributes:
        countdown: ends a trial within a batch when it is over.
        fp32_passes: how many passes it took to judge the fp32 model.
    """

    def __init__(
        self, judge: Judge, ranks: Ranks, say: Callable[[str], None], *, gives_up: bool
    ) -> None:
        self._judge, self._ranks, self._say = judge, ranks, say
        self._recorder = Recorder() if gives_up else None
        self._criterion: Criterion | None = None
        self._curve: Curve | None = None
        self._batches = self._of_all = self.fp32_passes = 0
        self.countdown = Countdown()

    def judge_fp32(self, model: nn.Module) -> Evaluation:
        """Judge the model that trials are compared with, in full; take what is known of it."""
        seen = self._judge.seen(model)
        if seen is None:
            self.fp32_passes = 1
            found = self._judge.evaluate(model, "baseline", self._recorder)
        else:
            found = seen.evaluation
            self._recorder = None if self._recorder is None else seen.recorder
            self._say(
                f"the fp32 model was judged {seen.where}: that is taken, and no pass is spent"
            )
        self._batches, self._of_all = found.batches, sum(self._ranks.gather(found.batches))
        return found

    def give_up_by(self, criterion: Criterion, fp32: Evaluation) -> None:
        """Take the criterion that the fp32 model's accuracy gave, from here on.

        Where the metric has no running value, one line says so, and trials are judged in full; so
        they are, without a word, where nobody can look into a pass.
        """
        recorder, self._recorder, self._criterion = self._recorder, None, criterion
        if recorder is None or not recorder.looked:
            return
        own = (
            recorder.fault,
            recorder.end and recorder.end.name,
            recorder.end and recorder.end.weight,
        )
        told = self._ranks.gather(own)
        name = fp32.monitor.name
        fault = next((fault for fault, *_ in told if fault), None)
        if fault is None and any(seen != name for _, seen, _ in told):
            fault = f"`{name}` is known only when a pass is over"
        if fault is not None or recorder.end is None:
            self._say(f"hopeless trials are judged in full, too: {fault}")
            return
        weight = sum(weight or 0.0 for *_, weight in told)
        self._curve = Curve(recorder.points, recorder.end, fp32.accuracy, weight)

    def judge_int8(self, model: nn.Module, label: str, *, in_full: bool = False) -> Score:
        """Judge a trial, in full or until it is hopeless; its objective is the seconds of a step.

        Raises:
            OutOfTime: if there is no time left; in all processes if in one.
        """
        started = monotonic()
        watch = self._watch(in_full)
        try:
            found = self._judge.evaluate(model, label, watch)
        except Exception:
            score = self._given_up(watch, started)
            if score is None:
                raise
            return score
        finally:
            self._hear(watch)
        score = Score.of(found.accuracy, monotonic() - started, found.batches / self._batches)
        return replace(score, objective=None if score.failed else found.step_seconds)

    def _watch(self, in_full: bool) -> _Watch:
        curve, criterion = None if in_full else self._curve, self._criterion
        screen = Screen(curve, criterion) if curve and criterion else None
        return _Watch(countdown=self.countdown, curve=curve, screen=screen)

    def _given_up(self, watch: _Watch, started: float) -> Score | None:
        """Return the score of a trial that a process gave up, ``None`` if it failed."""
        told = self._ranks.gather((watch.late, watch.estimate, watch.batches))
        if any(late for late, *_ in told):
            raise OutOfTime
        estimates = [estimate for _, estimate, _ in told if estimate is not None]
        if not estimates:
            return None
        share = sum(batches for *_, batches in told) / self._of_all
        return Score.screening(estimates[0], monotonic() - started, share)

    def _hear(self, watch: _Watch) -> None:
        if watch.fault is not None:
            self._say(f"from here on hopeless trials are judged in full, too: {watch.fault}")
            self._curve = None
