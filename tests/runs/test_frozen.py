"""Which frozen modules stay exact, as training steps show where their outputs go."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lpot_lightning.module.flow import Flow
from lpot_lightning.runs.frozen import ExactModules, told


class Distilled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.held = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
        self.held.requires_grad_(False)
        self.head = nn.Linear(4, 4)

    def step(self, batch: Tensor) -> Tensor:
        return F.mse_loss(self.head(self.held["a"](batch)), self.held["b"](batch))


def looked_at(exact: ExactModules, module: Distilled) -> ExactModules:
    flow = Flow(module)
    with flow.looking():
        module.step(torch.randn(2, 4))
    return exact.after(module, flow.feeding, flow.called)


def test_what_is_found_to_feed_what_trains_is_left_out():
    assert looked_at(ExactModules(["held.a", "held.b"]), Distilled()).paths == {"held.b"}
    assert looked_at(ExactModules(["held"]), Distilled()).paths == {"held.b"}
    assert looked_at(ExactModules(["held.b"]), Distilled()).paths == {"held.b"}


def test_what_trains_is_seen_whatever_its_parameters_are():
    module, exact = Distilled(), ExactModules(["held.a", "held.b"])
    assert not exact.unfrozen(module)
    module.held["b"].weight = nn.Parameter(torch.ones(4, 4))
    assert exact.unfrozen(module) == {"held.b"}
    assert exact.without({"held.b"}).paths == {"held.a"}


def test_one_line_says_what_was_taken_for_what():
    found = {"backbone": True, "teacher": False, "other": False, "norm": True}
    assert told(found, ["backbone.0", "teacher.fc", "other", "head"]) == (
        "frozen `backbone` feeds modules that train: it rounds as they do;"
        " frozen `teacher`, `other` are only compared with: they stay exact"
    )
    assert told(found, ["head"]) == ""
