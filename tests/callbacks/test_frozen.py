"""Which frozen modules stay exact, as training steps show where their outputs go."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import nn

from lpot_lightning.callbacks.frozen import ExactModules, reasons, told


class Lit(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.held = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
        self.held.requires_grad_(False)
        self.head = nn.Linear(4, 4)

    def training_step(self, batch: Any) -> Any:
        return F.mse_loss(self.head(self.held["a"](batch)), self.held["b"](batch))


def looked_at(exact: ExactModules, lit: Lit) -> ExactModules:
    exact.look(lit)
    lit.training_step(torch.randn(2, 4))
    return exact.after(lit, *exact.looked())


def test_what_is_found_to_feed_what_trains_is_left_out():
    assert looked_at(ExactModules(["held.a", "held.b"]), Lit()).paths == {"held.b"}
    assert looked_at(ExactModules(["held"]), Lit()).paths == {"held.b"}
    assert looked_at(ExactModules(["held.b"]), Lit()).paths == {"held.b"}


def test_the_step_is_the_modules_own_again():
    lit, exact = Lit(), ExactModules(["held"])
    exact.look(lit)
    args = inspect.getfullargspec(lit.training_step.__wrapped__).args
    assert args == ["self", "batch"]  # where Lightning finds no number of the batch
    with pytest.raises(RuntimeError):
        lit.training_step(torch.randn(2, 5))
    exact.looked()
    assert "training_step" not in vars(lit)


def test_a_step_of_the_objects_own_comes_back():
    lit, exact = Lit(), ExactModules(["held"])
    own = lit.training_step = lambda batch: batch
    exact.look(lit)
    exact.stop()
    assert lit.training_step is own


def test_what_trains_is_seen_whatever_its_parameters_are():
    lit, exact = Lit(), ExactModules(["held.a", "held.b"])
    assert not exact.unfrozen(lit)
    lit.held["b"].weight = nn.Parameter(torch.ones(4, 4))
    assert exact.unfrozen(lit) == {"held.b"}
    assert exact.without({"held.b"}).paths == {"held.a"}


def test_reasons_are_those_of_ops_inside():
    assert set(reasons(["held.a", "held.a#linear_0", "held.ab", "b"], ["held.a"])) == {
        "held.a",
        "held.a#linear_0",
    }


def test_one_line_says_what_was_taken_for_what():
    found = {"backbone": True, "teacher": False, "other": False, "norm": True}
    assert told(found, ["backbone.0", "teacher.fc", "other", "head"]) == (
        "frozen `backbone` feeds modules that train: it rounds as they do;"
        " frozen `teacher`, `other` are only compared with: they stay exact"
    )
    assert told(found, ["head"]) == ""
