"""A `train` block trains as the loop that it stands for."""

from __future__ import annotations

import copy
from typing import Any

import torch
from plain_scenes import net, train_loader
from torch import nn

from lpot_lightning.conf.reader import read_conf
from lpot_lightning.lpot.given import LoaderWithOrigin
from lpot_lightning.lpot.train_block import Hooks, train_loop_of

TRAIN = {
    "optimizer": {
        "SGD": {"learning_rate": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.001}
    },
    "criterion": {"CrossEntropyLoss": {"reduction": "sum"}},
    "start_epoch": 1,
    "end_epoch": 3,
    "iteration": 2,
}


def training(hooks: Hooks | None = None, **given: Any) -> Any:
    quantization = {"approach": "quant_aware_training", "train": {**TRAIN, **given}}
    model = {"name": "net", "framework": "pytorch_fx"}
    train = read_conf({"model": model, "quantization": quantization}).quantization.train
    loader = LoaderWithOrigin(train_loader(), "the loader")
    return train_loop_of(train, loader, where="here", hooks=hooks)


def test_it_does_what_a_loop_of_the_users_would_do() -> None:
    model, other = net().eval(), net()
    training()(model)
    sgd = torch.optim.SGD(
        other.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.001
    )
    for _ in range(2):
        for images, kinds in list(train_loader())[:2]:
            sgd.zero_grad()
            nn.functional.cross_entropy(other(images), kinds, reduction="sum").backward()
            sgd.step()
    for one, expected in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(one, expected)
    assert model.training


def test_hooks_are_called_around_epochs_and_batches() -> None:
    class Spy(Hooks):
        def __init__(self) -> None:
            self.heard: list[Any] = []

        def on_epoch_begin(self, epoch: int) -> None:
            self.heard.append(epoch)

        def on_batch_begin(self, batch_id: int) -> None:
            self.heard.append(f"batch {batch_id}")

        def on_post_grad(self) -> None:
            self.heard.append("grad")

        def on_batch_end(self) -> None:
            self.heard.append("end")

        def on_epoch_end(self) -> None:
            self.heard.append("over")

    spy = Spy()
    training(spy, end_epoch=2)(net())
    batches = ["batch 0", "grad", "end", "batch 1", "grad", "end"]
    assert spy.heard == [1, *batches, "over"]


def test_what_is_frozen_stays() -> None:
    model = net()
    model.first.requires_grad_(False)
    before = copy.deepcopy(model.first.weight)
    training()(model)
    assert torch.equal(model.first.weight, before)
