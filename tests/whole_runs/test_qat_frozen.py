"""Frozen modules in a training for int8: backbones round, teachers stay exact."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from frozen_scenes import Distilled, Probed, Trains, asked, fit, frozen
from lightning.pytorch.callbacks import BackboneFinetuning
from lit_scenes import WIDTH, small_net
from qat_scenes import checkpoints
from torch import Tensor, nn

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
NET = {"net.0", "net.2"}


def rounded(spy: Any) -> set[str]:
    """Return the layers that rounded in all batches."""
    first = spy.seen[0]
    assert all(one == first for one in spy.seen)
    return set(first)


def test_a_teacher_stays_exact_and_fp32(caplog):
    with caplog.at_level(logging.INFO):
        callback, spy = fit(Distilled(), probed="teacher")
    assert rounded(spy) == NET
    assert all(spy.exact)
    assert set(callback.result.int8_ops) == NET
    told = dict(callback.result.not_quantizable)
    assert "frozen teacher" in told["teacher.0"]
    assert not {"teacher.0", "teacher.2"} & set(callback.result.fp32_ops)
    assert "frozen `teacher` is only compared with: it stays exact" in caplog.text


def test_modules_decide_otherwise():
    callback, spy = fit(Distilled(), asked(modules=["net", "teacher"]))
    assert rounded(spy) == {*NET, "teacher.0", "teacher.2"}
    assert {"teacher.0", "teacher.2"} <= set(callback.result.int8_ops)


def test_a_backbone_in_eval_mode_rounds_and_is_int8(caplog):
    with caplog.at_level(logging.INFO):
        callback, spy = fit(Probed())
    assert rounded(spy) == {*NET, "backbone.0"}
    assert {"backbone.0", *NET} <= set(callback.result.int8_ops)
    assert "frozen `backbone` feeds modules that train: it rounds as they do" in caplog.text


class OnlyInTraining(Probed):
    """Validation gets features."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.acc(self.net(batch[0]), batch[1])
        self.log("val_acc", self.acc)


def test_what_only_training_calls_rounds_from_the_second_batch_on():
    _, spy = fit(OnlyInTraining())
    assert spy.seen[0] == NET
    assert all(one == {*NET, "backbone.0"} for one in spy.seen[1:])


class Unfrozen(Distilled):
    """The teacher learns, too, from an epoch on."""

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 1:
            self.teacher.requires_grad_(True)


def test_a_teacher_that_is_unfrozen_rounds_from_then_on():
    callback, spy = fit(Unfrozen(), max_epochs=2)
    assert spy.seen[:3] == [NET] * 3
    assert spy.seen[3:] == [{*NET, "teacher.0", "teacher.2"}] * 3
    assert {"teacher.0", "teacher.2"} <= set(callback.result.int8_ops)


def test_backbone_finetuning_unfreezes_what_rounds_all_the_time():
    module = Probed()
    module.net.requires_grad_(True)
    callback, spy = fit(module, None, BackboneFinetuning(1, verbose=False), max_epochs=3)
    assert rounded(spy) == {*NET, "backbone.0"}
    assert {"backbone.0", *NET} <= set(callback.result.int8_ops)


class Perceptual(Trains):
    """A loss that looks through a frozen net."""

    def __init__(self) -> None:
        super().__init__()
        self.seen_by = frozen(nn.Sequential(nn.Linear(3, 4), nn.ReLU()))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        out = self.net(batch[0])
        wanted = F.one_hot(batch[1], 3).float()
        close = F.mse_loss(self.seen_by(out), self.seen_by(wanted))
        return close + F.cross_entropy(out, batch[1])


def test_a_net_that_a_loss_looks_through_stays_exact():
    callback, spy = fit(Perceptual())
    assert rounded(spy) == NET
    assert set(callback.result.int8_ops) == NET


class Adversarial(Trains):
    """Two that train, one at a time."""

    def __init__(self, toggle: str) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.critic, self.toggle = (
            nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)),
            toggle,
        )
        if toggle == "by hand":
            self.critic.requires_grad_(False)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        makes, judges = self.optimizers()
        out = self.net(batch[0])
        self._take(makes, -self.critic(out).mean() + F.cross_entropy(out, batch[1]))
        self.critic.requires_grad_(True)
        real = F.one_hot(batch[1], 3).float()
        loss = self.critic(self.net(batch[0]).detach()).mean() - self.critic(real).mean()
        self._take(judges, loss)
        if self.toggle == "by hand":
            self.critic.requires_grad_(False)

    def _take(self, optimizer: Any, loss: Tensor) -> None:
        if self.toggle == "by Lightning":
            self.toggle_optimizer(optimizer)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        if self.toggle == "by Lightning":
            self.untoggle_optimizer(optimizer)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.log("critic", self.critic(self.net(batch[0])).mean())

    def configure_optimizers(self) -> Any:
        nets = self.net, self.critic
        return [torch.optim.SGD(one.parameters(), lr=0.01) for one in nets]


def test_a_critic_that_lightning_freezes_for_a_while_rounds():
    _, spy = fit(Adversarial("by Lightning"))
    assert rounded(spy) == {*NET, "critic.0", "critic.2"}


def test_a_critic_that_is_frozen_between_batches_rounds_from_its_first_step_on():
    callback, spy = fit(Adversarial("by hand"))
    assert spy.seen[0] == NET
    assert all(one == {*NET, "critic.0", "critic.2"} for one in spy.seen[1:])
    assert {"critic.0", "critic.2"} <= set(callback.result.int8_ops)


class Momentum(Trains):
    """A teacher that is the average of its student, and another one; both share what they read."""

    def __init__(self) -> None:
        super().__init__()
        self.average, self.other = frozen(copy.deepcopy(self.net)), frozen()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        with torch.no_grad():
            for mine, theirs in zip(self.average.parameters(), self.net.parameters(), strict=True):
                mine.mul_(0.9).add_(theirs, alpha=0.1)
            wanted = self.average(batch[0]).softmax(1) + self.other(batch[0]).softmax(1)
        out = self.net(batch[0])
        return F.mse_loss(out.softmax(1), wanted / 2) + F.cross_entropy(out, batch[1])


def test_two_teachers_one_of_them_an_average_of_the_student():
    callback, spy = fit(Momentum(), probed="average")
    assert rounded(spy) == NET
    assert all(spy.exact)
    assert set(callback.result.int8_ops) == NET


class Siamese(Trains):
    """Two towers with the weights of one, and a step that calls layers directly."""

    def __init__(self) -> None:
        super().__init__()
        self.left = frozen(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()))
        self.right = self.left

    def both(self, x: Tensor) -> Tensor:
        return self.left[0](x) + F.linear(x, self.right[0].weight)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        hidden = F.relu(self.net[0](self.both(batch[0])))
        return F.cross_entropy(self.net[2](hidden), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step((self.both(batch[0]), batch[1]), batch_idx)


def test_towers_that_share_weights_and_layers_that_the_step_calls():
    _, spy = fit(Siamese())
    assert rounded(spy) == {*NET, "left.0"}


def test_a_fit_goes_on_with_what_stayed_exact(tmp_path):
    saved = checkpoints(tmp_path)
    fit(OnlyInTraining(), None, saved, max_epochs=1, enable_checkpointing=True)
    path, going_on = saved.last_model_path, {"max_epochs": 2, "enable_checkpointing": True}
    _, spy = fit(OnlyInTraining(), None, checkpoints(tmp_path), ckpt_path=path, **going_on)
    assert rounded(spy) == {*NET, "backbone.0"}
    module = Distilled()
    saved = checkpoints(tmp_path / "teacher")
    fit(module, None, saved, max_epochs=1, enable_checkpointing=True)
    path = saved.last_model_path
    callback, spy = fit(Distilled(), None, saved, ckpt_path=path, **going_on)
    assert rounded(spy) == NET
    assert "frozen teacher" in dict(callback.result.not_quantizable)["teacher.0"]


def test_no_flow_is_looked_for_where_all_trains(monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("lpot_lightning.module.flow.Flow.looking", never)
    module = Trains()
    module.other = small_net()
    fit(module)
