"""The end of a pruning: judged, compared with the dense model, written down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from torch import nn

from lpot_lightning.conf.schema import Conf
from lpot_lightning.deploy.origin import Origin
from lpot_lightning.deploy.recording import CallRecorder
from lpot_lightning.errors import EvaluationError
from lpot_lightning.judging.protocols import Feed, Judge
from lpot_lightning.machine.ranks import Ranks
from lpot_lightning.machine.signals import uninterrupted
from lpot_lightning.pruning.channels.plan import ChannelPlan, Kept
from lpot_lightning.pruning.model_pruner import ModelPruner
from lpot_lightning.runs.channels import Channels, without_channels
from lpot_lightning.runs.preparation import Say
from lpot_lightning.runs.pruned_files import save_pruned
from lpot_lightning.runs.pruning_result import CutShapes, PruningResult
from lpot_lightning.runs.reporting.surroundings import about_pruning
from lpot_lightning.training_log import TrainingLog
from lpot_lightning.tuning.score import Criterion


@dataclass(frozen=True)
class Dense:
    """What is known of the model before it was pruned.

    Args:
        given: the accuracy that the user says is the baseline.
        start: the accuracy of the weights that the training began with.
        best: the best that was seen before pruning began.
    """

    given: float | None = None
    start: float | None = None
    best: float | None = None

    def baseline(self, higher_is_better: bool) -> float:
        """Return what the pruned model is compared with.

        Raises:
            EvaluationError: if nothing is known, or nothing that is finite.
        """
        if self.given is not None:
            return self.given
        known = [one for one in (self.start, self.best) if one is not None and isfinite(one)]
        if not known:
            raise EvaluationError(
                "no accuracy of the dense model is known, so that the pruned one cannot be"
                " compared: give it in `baseline`"
            )
        return max(known) if higher_is_better else min(known)


@dataclass(frozen=True, kw_only=True)
class PruningEnd:
    """What the end of a pruning works with.

    Args:
        conf: checked.
        judge: judges the model.
        feed: shows it data, where channels were pruned, for the speed-up.
        dense: what it is compared with.
        workspace: where the files go; ``None`` writes none.
        ranks: the processes that judge together; rank 0 writes.
        say: takes what the user should know.
        channels: of the model, where channels were pruned: then they are cut out of it, and the
            smaller model is judged.
        done: gets the result the moment it is written down; no signal comes between.
    """

    conf: Conf
    judge: Judge
    feed: Feed
    dense: Dense
    workspace: Path | None
    ranks: Ranks
    say: Say
    channels: Channels | None = None
    done: Callable[[PruningResult], None] = lambda result: None


def finish_pruning(model: nn.Module, pruner: ModelPruner, end: PruningEnd) -> PruningResult:
    """Judge a pruned model, and write it down.

    Args:
        model: with pruned weights, in eval mode, float32, on the CPU; it becomes the result's.
        pruner: that pruned it.
        end: see there.

    Raises:
        EvaluationError: if its accuracy is not finite.
    """
    layers, reached, plan = pruner.layers(model), pruner.reached_in(model), pruner.plan(model)
    smaller = without_channels(model, plan, end.channels, end.feed, end.say)
    recorder = CallRecorder()
    with recorder.on(smaller.model):
        found = end.judge.evaluate(smaller.model, "the pruned model")
    accuracy, monitor = found.accuracy, found.monitor
    if not isfinite(accuracy):
        raise EvaluationError(
            f"the pruned model's `{monitor.name}` is {accuracy}: look at the weights, the"
            " validation data and the metric"
        )
    for note in monitor.notes:
        end.say(note)
    baseline = end.dense.baseline(monitor.higher_is_better)
    criterion = Criterion.of(end.conf.tuning.accuracy_criterion, monitor.higher_is_better)
    good = criterion.accepts(accuracy, baseline)
    result = PruningResult(
        status="met" if good and reached else "not_met",
        reached=reached,
        monitor=monitor.name,
        criterion=criterion,
        baseline=baseline,
        accuracy=accuracy,
        layers=layers,
        unprunable={} if end.channels is None else end.channels.found.excluded,
        parameters=smaller.parameters,
        macs=smaller.macs,
        speedup=None if smaller.speed is None else smaller.speed.middle,
        speedup_spread=None if smaller.speed is None else smaller.speed.spread,
        cut={} if smaller.plan is None else _cut_by(smaller.plan),
        training=TrainingLog(sparsity=pruner.log),
        about=about_pruning(end.conf, monitor.name, criterion),
        workspace=end.workspace,
        held=smaller.model.eval(),
        origin=Origin(
            root=recorder.root, calls=recorder.calls, monitor=monitor.name, accuracy=accuracy
        ),
    )
    with uninterrupted():
        if end.workspace is not None:
            folder = end.workspace
            calls = recorder.firsts
            end.ranks.on_zero(
                lambda: save_pruned(folder, result, end.conf, smaller.plan, calls, end.say)
            )
        end.done(result)
    for name in result.emptied:
        end.say(
            f"`{name}` was pruned away as a whole: a lower target or `prune_domain: local` helps"
        )
    return result


def _cut_by(plan: ChannelPlan) -> dict[str, CutShapes]:
    """Return the shapes before and after the cut of what has channels in and out."""
    return {
        name: (tuple(one.shape), tuple(_left(one.shape, one.kept)))
        for name, one in plan.tensors.items()
        if len(one.shape) > 1
    }


def _left(shape: Sequence[int], kept: Sequence[Kept]) -> Iterator[int]:
    for size, stays in zip(shape, kept, strict=True):
        yield size if stays is None else len(stays)
