"""A training step that is followed, and is the module's own again afterwards."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn

from lpot_lightning.callbacks.followed_step import FollowedStep
from lpot_lightning.module.flow import Flow


class Lit(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Linear(4, 4).requires_grad_(False), nn.Linear(4, 4)

    def training_step(self, batch: Any) -> Any:
        return self.head(self.backbone(batch)).mean()


def test_the_flow_sees_what_the_step_does():
    lit, step = Lit(), FollowedStep()
    flow = Flow(lit)
    step.begin(lit, flow)
    lit.training_step(torch.randn(2, 4))
    assert flow.feeding == {"backbone"}


def test_the_step_is_the_modules_own_again():
    lit, step = Lit(), FollowedStep()
    step.begin(lit, Flow(lit))
    args = inspect.getfullargspec(lit.training_step.__wrapped__).args
    assert args == ["self", "batch"]  # where Lightning finds no number of the batch
    with pytest.raises(RuntimeError):
        lit.training_step(torch.randn(2, 5))
    step.end()
    assert "training_step" not in vars(lit)


def test_a_step_of_the_objects_own_comes_back():
    lit, step = Lit(), FollowedStep()
    own = lit.training_step = lambda batch: batch
    step.begin(lit, Flow(lit))
    step.end()
    assert lit.training_step is own
