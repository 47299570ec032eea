"""What a pruning came to."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from typing_extensions import override

from lpot_lightning.artifacts.earlier import REPORT
from lpot_lightning.artifacts.storage import Names
from lpot_lightning.deploy.export_records import read_exports
from lpot_lightning.deploy.exported import Exported
from lpot_lightning.errors import PruningError
from lpot_lightning.machine.columns import aligned
from lpot_lightning.machine.files import shown
from lpot_lightning.machine.typed import look_up_hints
from lpot_lightning.pruning.pruners import LayerSparsity
from lpot_lightning.report.facts import Facts, PruningFacts, RunState
from lpot_lightning.runs.reporting.report_file import (
    files_in,
    is_page_of_both,
    note_exports,
    now,
)
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

NAMES = Names("pruned_configure.yaml", "pruned_model_weights.pt")
PruningStatus = Literal["met", "not_met"]
PRUNING_RESULT = "pruning_result.json"
SHOWN = 30
CutShapes = tuple[tuple[int, ...], tuple[int, ...]]
"""Of one tensor, before and after the cut."""


@dataclass(frozen=True, kw_only=True, repr=False)
class PruningResult(Result):
    """What a pruning came to.

    Args:
        status: ``"met"`` if the model is good enough and every pruner reached its target, else
            ``"not_met"``.
        reached: whether every pruner reached its target.
        monitor: name of the metric that judged.
        criterion: how much worse than the baseline was allowed.
        baseline: the dense model's accuracy.
        accuracy: the pruned model's.
        layers: how sparse each pruned parameter is, as it was trained: where channels were cut
            afterwards, before that.
        unprunable: layers that keep all channels, with the reason; only for ``pattern: channel``.
        parameters: how many there are, before and after; less only where channels were cut.
        macs: multiply-accumulates of one sample, before and after; ``None`` where nothing was cut.
        speedup: seconds of one step, dense over pruned, run in turns: the median of the ratios of
            all pairs; ``None`` where nothing was cut: zeros alone make a dense kernel no faster.
        speedup_spread: two ratios between which it is, 95 of 100 times; ``None`` where it was not
            measured, or by fewer than three pairs.
        cut: the shapes of the weights that channels were cut out of, before and after, by name.
        training: how sparse each parameter was at each moment at which more was pruned.
        about: what was asked for, and where it ran; ``None`` in a result of an earlier version.
        workspace: where the files are; ``None`` where none were asked for.
        held: the ``model``; ``None`` in a result that was read from its file.
        origin: what the model is called with, and who judges it; unknown in such a result.
    """

    _kind, _before = "pruned", "dense"
    _files = (NAMES.configure, NAMES.weights)
    _gone = PruningError

    status: PruningStatus
    reached: bool
    layers: tuple[LayerSparsity, ...]
    unprunable: Mapping[str, str]
    parameters: tuple[int, int]
    macs: tuple[int, int] | None
    speedup: float | None
    speedup_spread: Spread | None = None
    cut: Mapping[str, CutShapes] = field(default_factory=dict)
    training: TrainingLog | None = None
    about: About | None = None

    @property
    def sparsity(self) -> float:
        """The share of zeros in all pruned parameters together."""
        return sparsity_of_all(self.layers)

    @property
    def emptied(self) -> tuple[str, ...]:
        """The parameters of which nothing is left, though that was not their target."""
        return tuple(one.name for one in self.layers if one.sparsity == 1 and one.target != 1)

    @override
    def report(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Do what ``report`` of all results does.

        Where an int8 run has followed in the same workspace, the page there has both, and is left
        as it is.
        """
        page = self._page_of_both
        return super().report(path) if path is not None or page is None else page

    @override
    def note_exports(self, exported: Sequence[Exported]) -> tuple[Exported, ...]:
        """Do what ``note_exports`` of all results does; a page of both runs is left as it is."""
        if self._page_of_both is None:
            return super().note_exports(exported)
        note_exports(self._page_of_both.parent, exported, None)
        return tuple(exported)

    @property
    def _page_of_both(self) -> Path | None:
        """The page of an int8 run that has followed in the same workspace, if one has."""
        if self.workspace is None:
            return None
        page = self.workspace / REPORT
        return page if is_page_of_both(page, self.pruning_facts()) else None

    @override
    def facts(self, folder: Path | None) -> Facts:
        """Return what a report tells of the run."""
        return Facts(
            title="pruned model" if self.about is None else self.about.model,
            state=RunState.ENDED,
            now=now(),
            folder="" if folder is None else shown(folder),
            pruning=self.pruning_facts(),
            exports=() if folder is None else read_exports(folder),
            files=() if folder is None else files_in(folder),
        )

    def pruning_facts(self) -> PruningFacts:
        """Return what a report tells of the pruning."""
        return PruningFacts(
            monitor=self.monitor,
            criterion=self.criterion,
            baseline=self.baseline,
            accuracy=self.accuracy,
            met=self.status == "met",
            reached=self.reached,
            layers=self.layers,
            sparsity=self.sparsity,
            unprunable=self.unprunable,
            parameters=self.parameters,
            macs=self.macs,
            speed=None if self.speedup is None else Ratio(self.speedup, self.speedup_spread),
            cut=self.cut,
            training=self.training,
            about=self.about,
        )

    def table(self) -> str:
        """Return the run as a table for people."""
        return f"{aligned(self._rows())}\n\n{self.layer_table()}"

    def _rows(self) -> list[tuple[str, str]]:
        rows = [
            *self._accuracy_rows(),
            ("status", self.status if self.reached else f"{self.status}, target not reached"),
            ("sparsity", f"{self.sparsity:.2%} of the pruned weights"),
            ("parameters", self._change_of_parameters()),
        ]
        if self.macs is not None:
            rows.append(("MACs a sample", f"{self.macs[0]:,} -> {self.macs[1]:,}"))
        if self.speedup is not None:
            rows.append(("speed-up", as_speedup(self.speedup, self.speedup_spread)))
        if self.workspace is not None:
            rows.append(("workspace", shown(self.workspace)))
        return rows

    def _change_of_parameters(self) -> str:
        before, after = self.parameters
        return f"{before:,}" + (f" -> {after:,}" if after != before else "")

    def _in_short(self) -> list[str]:
        verdict = "the goal is met" if self.status == "met" else "the goal is not met"
        if not self.reached:
            verdict = "the target sparsity is not reached"
        became = "became zero, and channels were cut out" if self.cut else "are zero"
        parts = [f"{self.sparsity:.2%} of the pruned weights {became}"]
        if self.parameters[0] != self.parameters[1]:
            parts.append(f"parameters {self._change_of_parameters()}")
        if self.speedup is not None:
            parts.append(f"speed-up {as_speedup(self.speedup, self.speedup_spread)}")
        return [self._what_came(verdict), ", ".join(parts), *self._where()]

    def layer_table(self, most: int = SHOWN) -> str:
        """Return how sparse each pruned parameter is; the first ``most`` of them."""
        head = ("parameter", "shape", "pattern", "sparsity", "target")
        rows = [head, *(_cells(layer) for layer in self.layers[:most])]
        rest = len(self.layers) - most
        return aligned(rows, right=(3, 4)) + (f"\n… and {rest} more" if rest > 0 else "")


look_up_hints(PruningResult)


def _cells(layer: LayerSparsity) -> tuple[str, ...]:
    return (
        layer.name,
        "x".join(map(str, layer.shape)),
        layer.pattern,
        f"{layer.sparsity:.2%}",
        "-" if layer.target is None else f"{layer.target:.2%}",
    )


def sparsity_of_all(layers: tuple[LayerSparsity, ...]) -> float:
    """Return the share of zeros in several parameters together."""
    zeros = sum(layer.sparsity * layer.elements for layer in layers)
    return zeros / max(1, sum(layer.elements for layer in layers))


def read_pruning_result(path: Path) -> PruningResult:
    """Return what ``PruningResult.to_json`` wrote; its ``model`` is not there.

    Raises:
        ArtifactError: if the file cannot be read, or is not one of ours.
    """
    parts: dict[str, Callable[[Any], Any]] = {
        "layers": each(_layer),
        "parameters": as_tuple,
        "macs": pair_or_none,
        "speedup_spread": pair_or_none,
        "cut": values(lambda plain: tuple(map(tuple, as_tuple(plain)))),
        "training": or_none(TrainingLog.from_dict),
        "about": or_none(About.from_dict),
    }
    return read_as(PruningResult, path, parts)


def pruning_facts_in(folder: Path) -> PruningFacts | None:
    """Return what a report tells of the pruning in a workspace; ``None`` where there was none.

    Raises:
        ArtifactError: if its result cannot be read, or is not one of ours.
    """
    path = folder / PRUNING_RESULT
    return read_pruning_result(path).pruning_facts() if path.is_file() else None


def _layer(plain: dict[str, Any]) -> LayerSparsity:
    return LayerSparsity(**{**plain, "shape": tuple(plain["shape"])})
