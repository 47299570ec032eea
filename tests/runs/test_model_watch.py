"""What is noticed of a model between two batches of its training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lpot_lightning.runs.frozen import ExactModules
from lpot_lightning.runs.model_watch import ModelWatch


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.teacher = nn.Linear(4, 4), nn.Linear(4, 4).requires_grad_(False)

    def loss(self, x: Tensor) -> Tensor:
        return F.mse_loss(self.net(x), self.teacher(x))

    def stacked(self, x: Tensor) -> Tensor:
        return self.net(self.teacher(x)).mean()


def watched() -> tuple[Model, ModelWatch]:
    model = Model()
    return model, ModelWatch(model, ExactModules(["teacher"]))


def test_nothing_is_otherwise_where_nothing_was_done():
    model, watch = watched()
    flow = watch.flow(model)
    with flow.looking():
        model.loss(torch.ones(2, 4))
    assert watch.changes(model) is None


def test_the_first_two_batches_are_followed_and_the_first_of_each_epoch():
    model, watch = watched()
    follows = [watch.flow(model, first=at in (0, 3)) is not None for at in range(5)]
    assert follows == [True, True, False, True, False]
    assert ModelWatch(model, ExactModules()).flow(model, first=True) is None


def test_what_feeds_what_trains_is_to_round():
    model, watch = watched()
    with watch.flow(model).looking():
        model.stacked(torch.ones(2, 4))
    changes = watch.changes(model)
    assert changes.rounds == {"teacher"}
    assert not changes.exact.paths


def test_what_trains_in_a_backward_is_to_round():
    model, watch = watched()
    model.teacher.requires_grad_(True)
    watch.note_backward(model)
    model.teacher.requires_grad_(False)
    assert watch.changes(model).rounds == {"teacher"}


def test_another_layer_is_told_from_another_teacher():
    model, watch = watched()
    model.teacher = nn.Linear(4, 4).requires_grad_(False)
    changes = watch.changes(model)
    assert (changes.exchanged, changes.others) == ({"teacher"}, False)
    model.net = nn.Linear(4, 4)
    changes = watch.changes(model)
    assert (changes.exchanged, changes.others) == ({"teacher", "net"}, True)


def test_what_was_frozen_since():
    model, watch = watched()
    assert not watch.frozen_since(model)
    model.more = nn.Linear(4, 4).requires_grad_(False)
    assert watch.frozen_since(model) == {"more"}
