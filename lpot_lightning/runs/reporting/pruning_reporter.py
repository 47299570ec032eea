"""The report of a pruning that goes on, written anew whenever more is pruned."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from lpot_lightning.artifacts.earlier import HISTORY, REPORT, RESULT
from lpot_lightning.conf.schema import Conf
from lpot_lightning.judging.protocols import Monitor
from lpot_lightning.machine.files import shown
from lpot_lightning.pruning.model_pruner import ModelPruner
from lpot_lightning.report.facts import Facts, PruningFacts, RunState
from lpot_lightning.runs.pruning_result import PRUNING_RESULT, sparsity_of_all
from lpot_lightning.runs.reporting.report_file import ReportWriter, files_in, now
from lpot_lightning.runs.reporting.surroundings import about_pruning
from lpot_lightning.training_log import TrainingLog
from lpot_lightning.tuning.score import Criterion


class PruningReporter:
    """Keeps the report of a pruning up to date until its result has one.

    Where the workspace has the result of an earlier run, its page is left until then: it is kept
    with the files of that run, which are replaced at the end.

    Args:
        conf: of the run.
        folder: the workspace; ``None`` writes nothing.
    """

    def __init__(self, conf: Conf, folder: Path | None) -> None:
        earlier = (PRUNING_RESULT, RESULT, HISTORY)
        if folder is not None and any((folder / one).is_file() for one in earlier):
            folder = None
        self._conf, self._folder = conf, folder
        self._writer = ReportWriter(None if folder is None else folder / REPORT)

    def tell(
        self,
        model: nn.Module,
        pruner: ModelPruner,
        monitor: Monitor | None,
        state: RunState = RunState.GOING_ON,
        *notes: str,
    ) -> None:
        """Report how sparse a model is now.

        Args:
            model: that is trained.
            pruner: that prunes it.
            monitor: the metric that will judge, where it is known.
            state: of the run.
            notes: what else there is to know.
        """
        self._writer.write(lambda: self._facts(model, pruner, monitor, state, notes))

    def _facts(
        self,
        model: nn.Module,
        pruner: ModelPruner,
        monitor: Monitor | None,
        state: RunState,
        notes: tuple[str, ...],
    ) -> Facts:
        assert self._folder is not None
        return Facts(
            title=self._conf.model.name,
            state=state,
            now=now(),
            folder=shown(self._folder),
            pruning=self._so_far(model, pruner, monitor),
            files=files_in(self._folder),
            notes=notes,
        )

    def _so_far(
        self, model: nn.Module, pruner: ModelPruner, monitor: Monitor | None
    ) -> PruningFacts:
        layers, asked = pruner.layers(), self._conf.tuning.accuracy_criterion
        criterion = None if monitor is None else Criterion.of(asked, monitor.higher_is_better)
        known = None if monitor is None or criterion is None else (monitor.name, criterion)
        count = sum(one.numel() for one in model.parameters())
        return PruningFacts(
            monitor="" if monitor is None else monitor.name,
            criterion=criterion,
            baseline=None,
            accuracy=None,
            met=False,
            reached=pruner.reached,
            layers=layers,
            sparsity=sparsity_of_all(layers),
            parameters=(count, count),
            training=TrainingLog(sparsity=pruner.log),
            about=None if known is None else about_pruning(self._conf, *known),
        )
