"""The end of a pruning: judged, compared with the dense model, written down."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from torch import nn

from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import EvaluationError
from lpot_lightning.judging.protocols import Feed, Judge
from lpot_lightning.machine.ranks import Ranks
from lpot_lightning.machine.signals import uninterrupted
from lpot_lightning.module.stand_in import second_model
from lpot_lightning.pruning.channels.cost import parameters_of
from lpot_lightning.pruning.channels.cut import cut
from lpot_lightning.pruning.channels.plan import ChannelPlan
from lpot_lightning.pruning.model_pruner import ModelPruner
from lpot_lightning.pruning.pruners import LayerSparsity
from lpot_lightning.runs.channels import Channels
from lpot_lightning.runs.criterion import criterion_of
from lpot_lightning.runs.preparation import Say
from lpot_lightning.runs.pruned_files import save_pruned
from lpot_lightning.runs.pruning_result import PruningResult
from lpot_lightning.runs.speed import ratio_of


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


def finish_pruning(
    model: nn.Module,
    pruner: ModelPruner,
    conf: Conf,
    judge: Judge,
    feed: Feed,
    dense: Dense,
    workspace: Path | None,
    ranks: Ranks,
    say: Say,
    channels: Channels | None = None,
    done: Callable[[PruningResult], None] = lambda result: None,
) -> PruningResult:
    """Judge a pruned model, and write it down.

    Args:
        model: with pruned weights, in eval mode, float32, on the CPU; it becomes the result's.
        pruner: that pruned it.
        conf: checked.
        judge: judges it.
        feed: shows it data, where channels were pruned, for the speed-up.
        dense: what it is compared with.
        workspace: where the files go; ``None`` writes none.
        ranks: the processes that judge together; rank 0 writes.
        say: takes what the user should know.
        channels: of the model, where channels were pruned: then they are cut out of it, and the
            smaller model is judged.
        done: gets the result the moment it is written down; no signal comes between.

    Raises:
        EvaluationError: if its accuracy is not finite.
    """
    layers, reached = pruner.layers(model), pruner.reached_in(model)
    smaller = None if channels is None else _cut(model, pruner, feed, channels, say)
    model = model if smaller is None else smaller.model
    found = judge.evaluate(model, "the pruned model")
    accuracy, monitor = found.accuracy, found.monitor
    if not isfinite(accuracy):
        raise EvaluationError(
            f"the pruned model's `{monitor.name}` is {accuracy}: look at the weights, the"
            " validation data and the metric"
        )
    baseline = dense.baseline(monitor.higher_is_better)
    criterion = criterion_of(conf, monitor.higher_is_better)
    good = criterion.accepts(accuracy, baseline)
    result = PruningResult(
        status="met" if good and reached else "not_met",
        reached=reached,
        monitor=monitor.name,
        criterion=criterion,
        baseline=baseline,
        accuracy=accuracy,
        layers=layers,
        unprunable={} if channels is None else channels.found.excluded,
        parameters=smaller.parameters if smaller else (parameters_of(model),) * 2,
        macs=smaller.macs if smaller else None,
        speedup=smaller.speedup if smaller else None,
        workspace=workspace,
        held=model.eval(),
    )
    with uninterrupted():
        if workspace is not None:
            plan = None if smaller is None else smaller.plan
            ranks.on_zero(lambda: save_pruned(workspace, result, conf, plan))
        done(result)
    for name in emptied(layers):
        say(f"`{name}` was pruned away as a whole: a lower target or `prune_domain: local` helps")
    return result


@dataclass(frozen=True, kw_only=True)
class _Smaller:
    """A model without its pruned channels, and what that saves."""

    model: nn.Module
    plan: ChannelPlan
    parameters: tuple[int, int]
    macs: tuple[int, int]
    speedup: float


def _cut(
    dense: nn.Module, pruner: ModelPruner, feed: Feed, channels: Channels, say: Say
) -> _Smaller:
    plan = pruner.plan(dense)
    assert plan is not None
    small = cut(second_model(dense), plan)
    say("measuring the speed-up")
    return _Smaller(
        model=small,
        plan=plan,
        parameters=(parameters_of(dense), parameters_of(small)),
        macs=(channels.macs(dense), channels.macs(small)),
        speedup=ratio_of(lambda: feed.step_seconds(dense), lambda: feed.step_seconds(small)),
    )


def emptied(layers: Iterable[LayerSparsity]) -> list[str]:
    """Return the parameters of which nothing is left, though that was not their target."""
    return [one.name for one in layers if one.sparsity == 1 and one.target != 1]
