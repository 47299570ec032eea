"""What a report draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from lpot_lightning.deploy.exported import Exported
from lpot_lightning.pruning.pruners import LayerSparsity
from lpot_lightning.recipe import Rung
from lpot_lightning.timing.ratio import Ratio
from lpot_lightning.training_log import TrainingLog
from lpot_lightning.tuning.about import About
from lpot_lightning.tuning.causes import Cause
from lpot_lightning.tuning.repair import Repair
from lpot_lightning.tuning.score import Criterion
from lpot_lightning.tuning.trial import Status, Trial


class RunState(Enum):
    """Where a run stands, as people read it."""

    GOING_ON = "going on"
    """It writes its report itself."""
    NOT_ENDED = "not ended"
    """It is going on, or was stopped: its files do not tell which."""
    STOPPED = "stopped"
    """A signal ended it."""
    FAILED = "failed"
    """An error ended it."""
    ENDED = "ended"
    """There is a result."""


@dataclass(frozen=True, kw_only=True)
class OpFacts:
    """What became of one op.

    Args:
        name: its path in the model.
        rung: what it is.
        damage: the error that it causes alone in int8; NaN where that is not finite, ``None`` where
            it was not measured.
        int8: seconds of it in one step in int8; ``None`` where it was not timed.
        fp32: those in fp32.
        why: why it is on this rung; ``""`` where there is nothing to say.
        repairs: what was done to it.
        cause: why it hurts, where that was looked for.
    """

    name: str
    rung: Rung
    damage: float | None = None
    int8: float | None = None
    fp32: float | None = None
    why: str = ""
    repairs: tuple[Repair, ...] = ()
    cause: Cause | None = None


@dataclass(frozen=True, kw_only=True)
class TuningFacts:
    """What is known of the search for an int8 model.

    Args:
        monitor: name of the metric.
        criterion: how much worse than the baseline is allowed; ``None`` where it is not known.
        baseline: accuracy of the fp32 model.
        accuracy: that of the best model so far; ``None`` where there is none.
        status: of a run that has ended.
        trials: those that are over.
        best: number of the trial whose model is taken.
        pareto: numbers of those that no other beats in both accuracy and objective.
        objective: what ``score.objective`` of a trial counts.
        ops: what can be int8.
        excluded: what cannot, with the reason.
        causes: what stands in the way of int8 elsewhere, by what cannot be int8 or is no graph.
        evaluations: passes over the validation data.
        speed: seconds of a step, fp32 over int8.
        size_ratio: bytes of the state, fp32 over int8.
        floats: of what type attention and products are.
        training: how the training for int8 went.
        about: what was asked for, and where it ran.
    """

    monitor: str
    criterion: Criterion | None
    baseline: float | None
    accuracy: float | None = None
    status: Status | None = None
    trials: tuple[Trial, ...] = ()
    best: int | None = None
    pareto: tuple[int, ...] = ()
    objective: str = "performance"
    ops: tuple[OpFacts, ...] = ()
    excluded: Mapping[str, str] = field(default_factory=dict)
    causes: Mapping[str, Cause] = field(default_factory=dict)
    evaluations: float | None = None
    speed: Ratio | None = None
    size_ratio: float | None = None
    floats: str = "fp32"
    training: TrainingLog | None = None
    about: About | None = None


@dataclass(frozen=True, kw_only=True)
class PruningFacts:
    """What a pruning came to.

    Args:
        monitor: name of the metric.
        criterion: how much worse than the baseline was allowed; ``None`` where it is not known.
        baseline: accuracy of the dense model.
        accuracy: that of the pruned one; ``None`` where it is not judged yet.
        met: whether it is good enough, and every target was reached.
        reached: whether every target was.
        layers: how sparse each parameter is.
        sparsity: the share of zeros in all of them.
        unprunable: layers that keep all channels, with the reason.
        parameters: how many there are, before and after.
        macs: multiply-accumulates of one sample, before and after.
        speed: seconds of a step, dense over pruned.
        cut: shapes of weights before and after the cut.
        training: how sparse each parameter was when.
        about: what was asked for, and where it ran.
    """

    monitor: str
    criterion: Criterion | None
    baseline: float | None
    accuracy: float | None
    met: bool
    reached: bool
    layers: tuple[LayerSparsity, ...]
    sparsity: float
    unprunable: Mapping[str, str] = field(default_factory=dict)
    parameters: tuple[int, int]
    macs: tuple[int, int] | None = None
    speed: Ratio | None = None
    cut: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    training: TrainingLog | None = None
    about: About | None = None


@dataclass(frozen=True)
class FileFacts:
    """A file of a workspace.

    Args:
        name: of it.
        bytes: how large it is.
        what: what is in it.
    """

    name: str
    bytes: int
    what: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that one report draws.

    Args:
        title: name of the model.
        state: where the run stands.
        now: when this was, for people.
        folder: the workspace, for people; ``""`` where there is none.
        tuning: the search for an int8 model, where there was one.
        pruning: what was pruned.
        exports: files for other runtimes.
        files: of the workspace.
        notes: what else there is to know, each one sentence.
    """

    title: str
    state: RunState
    now: str
    folder: str = ""
    tuning: TuningFacts | None = None
    pruning: PruningFacts | None = None
    exports: tuple[Exported, ...] = ()
    files: tuple[FileFacts, ...] = ()
    notes: tuple[str, ...] = ()
