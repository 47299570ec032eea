"""What belongs to one fit that prunes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from lpot_lightning.errors import ArtifactError
from lpot_lightning.pruning.model_pruner import ModelPruner
from lpot_lightning.pruning.untrained import frozen_in
from lpot_lightning.runs.channels import Channels
from lpot_lightning.runs.prune import Dense
from lpot_lightning.runs.pruning_result import sparsity_of_all
from lpot_lightning.runs.reporting.pruning_reporter import PruningReporter

TELLS = 0.05
"""By how much the share of zeros grows from one line about a schedule in steps to the next."""


class PruningFit:
    """What is pruned in one fit, and what is known of the dense model.

    Args:
        given: the accuracy that the user says is the baseline.
        saved: the state of the fit that this one goes on with.

    Attributes:
        channels: the groups of the model's channels, where a pruner needs them.
        start: the accuracy of the weights that the training began with, where it was measured.
        goes_on: whether an epoch has begun, in this fit or in the one that it goes on with.
        has_pruned: whether any weight is pruned, so that validations judge the dense model no more.
        masked_at: the step of the optimizer after which masks were applied last.
        has_begun: whether a batch of this fit was about to begin.
        reporter: keeps the page of the workspace, once there is a pruner.
    """

    def __init__(self, given: float | None, saved: Mapping[str, Any] | None) -> None:
        self.saved = saved
        self.channels: Channels | None = None
        self.start: float | None = None
        self.goes_on = self.has_pruned = self.has_begun = False
        self.masked_at = -1
        self.reporter: PruningReporter | None = None
        self._told = 0.0
        self._given = given
        self._best: float | None = None
        self._pruner: ModelPruner | None = None

    @property
    def prunes(self) -> bool:
        """Whether there is a pruner: from the start of a fit to its end."""
        return self._pruner is not None

    @property
    def pruner(self) -> ModelPruner:
        """What prunes, while it ``prunes``."""
        assert self._pruner is not None
        return self._pruner

    def frozen(self, module: nn.Module, optimizers: Iterable[Optimizer]) -> list[str]:
        """Return the names of what nothing trained when pruning began.

        Raises:
            ArtifactError: if the state of the fit that this one goes on with is damaged.
        """
        if not self.saved:
            groups = [group for one in optimizers for group in one.param_groups]
            return frozen_in(module, {id(one) for group in groups for one in group["params"]})
        found = self.saved["pruner"].get("frozen", [])
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise ArtifactError("`pruner.frozen` in the checkpoint is damaged")
        return found

    def begin(self, pruner: ModelPruner, channels: Channels | None) -> None:
        """Prune by ``pruner`` from here on, taking up what was ``saved``."""
        self._pruner, self.channels = pruner, channels
        saved, self.saved = self.saved, None
        if saved:
            pruner.load(saved["pruner"])
            self.start, self._best = saved["start"], saved["best"]
            self.goes_on, self.has_pruned = True, pruner.has_pruned

    @property
    def sparsity(self) -> float:
        """The share of zeros in all weights to prune together."""
        return sparsity_of_all(self.pruner.layers())

    @property
    def dense(self) -> Dense:
        """What the pruned model is compared with."""
        return Dense(self._given, self.start, self._best)

    def worth_telling(self) -> bool:
        """Return whether so much more is pruned that people should know, or all is."""
        if self.sparsity < self._told + TELLS and not self.pruner.reached:
            return False
        self._told = self.sparsity
        return True

    def remember(self, accuracy: float, higher_is_better: bool) -> None:
        """Take in how good the dense model was in a validation."""
        known = [accuracy] + ([] if self._best is None else [self._best])
        self._best = max(known) if higher_is_better else min(known)

    def state(self) -> dict[str, Any]:
        """Return plain values and tensors that another fit goes on with as ``saved``."""
        start = self.start if self._given is None else self._given
        return {"pruner": self.pruner.state(), "start": start, "best": self._best}

    def let_go(self) -> dict[str, Any] | None:
        """Take hooks out of the model, and return the state that another fit goes on with."""
        if self._pruner is None:
            return None
        self._pruner.close()
        left = self.state() if self.goes_on else None
        self._pruner = self.channels = None
        return left
