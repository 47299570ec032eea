"""Layers that are exchanged while a model trains for int8."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from frozen_scenes import Exchanging, Head, asked, fit, frozen
from lit_scenes import KINDS, WIDTH, train_loader, val_loader
from qat_scenes import checkpoints, ranges_in
from torch import Tensor, nn

import lpot_lightning

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
NET = {"net.0", "net.2"}


def accuracy(module: Any) -> float:
    x, y = val_loader().dataset.tensors
    return float((module.net(x).argmax(1) == y).float().mean())


class HeadAtStart(Head):
    when, epoch = "on_train_start", 0


class HeadInABatch(Head):
    when = "on_train_batch_start"


class Parent(Exchanging):
    def exchange(self) -> list[nn.Module]:
        self.net = nn.Sequential(nn.Linear(WIDTH, 12), nn.ReLU(), nn.Linear(12, KINDS))
        return [self.net]


class Classes(Exchanging):
    def exchange(self) -> list[nn.Module]:
        self.net[2] = nn.Linear(16, KINDS + 2)
        return [self.net[2]]


class Grown(Exchanging):
    def exchange(self) -> list[nn.Module]:
        self.net.insert(2, nn.Linear(16, 16))
        return [self.net[2]]


class LoRA(nn.Module):
    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down, self.up = nn.Linear(base.in_features, 2), nn.Linear(2, base.out_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


class Adapted(Exchanging):
    def exchange(self) -> list[nn.Module]:
        made = [LoRA(self.net[0]), LoRA(self.net[2])]
        self.net[0], self.net[2] = made
        return [nn.ModuleList([made[0].up, made[0].down, made[1].up, made[1].down])]


ROUND = {
    Head: NET,
    HeadAtStart: NET,
    HeadInABatch: NET,
    Parent: NET,
    Classes: NET,
    Grown: {"net.0", "net.2", "net.3"},
    Adapted: {f"net.{at}.{part}" for at in (0, 2) for part in ("base", "down", "up")},
}


@pytest.mark.parametrize("kind", ROUND, ids=lambda kind: kind.__name__)
def test_the_new_layer_is_trained_rounded_and_judged(kind):
    module = kind()
    callback, spy = fit(module, max_epochs=4)
    assert module.has_learned
    assert spy.seen[-1] == ROUND[kind]
    assert set(callback.result.int8_ops) == ROUND[kind]
    told = callback.result
    assert told.accuracy == pytest.approx(accuracy(callback.result.model), abs=0.03)
    assert told.accuracy == pytest.approx(accuracy(module), abs=0.1)


def test_the_old_layer_computes_by_itself_again():
    module = Head()
    fit(module)
    assert "forward" not in vars(module.old[0])
    assert module.old[0](torch.ones(1, 16)).shape == (1, KINDS)


class Rnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(16, KINDS)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


class NoForm(Exchanging):
    def exchange(self) -> list[nn.Module]:
        self.net[2] = Rnn()
        return [self.net[2]]


def test_what_cannot_be_int8_trains_in_fp32_and_is_told(caplog):
    module = NoForm()
    with caplog.at_level(logging.INFO):
        callback, spy = fit(module, max_epochs=3)
    assert module.has_learned
    assert spy.seen[-1] == {"net.0"}
    assert set(callback.result.int8_ops) == {"net.0"}
    (line,) = [one for one in caplog.messages if "net.2.rnn" in one and "layer now" in one]
    assert "fp32" in line


def test_what_modules_and_op_wise_leave_out_stays_left_out(caplog):
    fp32 = {"weight": {"dtype": ["fp32"]}, "activation": {"dtype": ["fp32"]}}
    callback = asked(quantization={"op_wise": {"net.2": fp32}})
    module = Head()
    with caplog.at_level(logging.INFO):
        _, spy = fit(module, callback, max_epochs=3)
    assert module.has_learned
    assert spy.seen[-1] == {"net.0"}
    assert callback.result.fp32_ops == ("net.2",)


def test_other_layers_keep_their_ranges(tmp_path):
    saved = checkpoints(tmp_path)
    fit(Head(), None, saved, max_epochs=2, enable_checkpointing=True, limit_train_batches=1)
    first, second = (ranges_in(tmp_path / name) for name in names_of(tmp_path))
    low, high = (one["high"] for one in (first, second))
    assert abs(low[0] - high[0]) < 0.3 * abs(low[0])  # a tenth of a batch has come
    assert torch.isfinite(high).all()


def names_of(folder: Any) -> list[str]:
    return sorted(one.name for one in folder.glob("epoch*.ckpt"))


def test_a_fit_goes_on_after_an_exchange(tmp_path):
    """To the last bit as if nobody had stopped it."""
    data = train_loader(48, shuffle=False), val_loader()
    saved, ends = checkpoints(tmp_path), []
    options = {"max_epochs": 4, "enable_checkpointing": True, "data": data}
    for path in (None, tmp_path / "epoch=2-step=9.ckpt"):
        module = Head()
        module.done = path is not None
        torch.manual_seed(2)
        callback, spy = fit(module, asked(ckpt="current"), saved, ckpt_path=path, **options)
        ends.append({**ranges_in(saved.last_model_path), **module.net.state_dict()})
        assert spy.seen[-1] == set(callback.result.int8_ops) == NET
        assert callback.result.accuracy == pytest.approx(accuracy(callback.result.model))
    assert all(torch.equal(ends[0][name], one) for name, one in ends[1].items())
    restored = lpot_lightning.load_from_checkpoint(Head, saved.last_model_path)
    assert accuracy(restored) == pytest.approx(callback.result.accuracy, abs=0.05)


def test_a_best_checkpoint_of_another_structure_is_not_taken(tmp_path):
    saved = checkpoints(tmp_path, monitor="val_acc", mode="max", save_top_k=1)
    module = Classes()
    with pytest.warns(UserWarning, match="from before `net.2` was exchanged"):
        callback, _ = fit(module, None, saved, max_epochs=2, enable_checkpointing=True)
    assert callback.result.model.net[2].out_features == KINDS + 2


class Gone(Exchanging):
    def exchange(self) -> list[nn.Module]:
        self.extra = None
        return [nn.Module()]

    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.Linear(WIDTH, WIDTH)
        nn.init.eye_(self.extra.weight)

    def features(self, x: Tensor) -> Tensor:
        return x if self.extra is None else self.extra(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.net(self.features(batch[0])), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step((self.features(batch[0]), batch[1]), batch_idx)


def test_a_layer_that_is_gone_is_dropped():
    callback, spy = fit(Gone(), max_epochs=3)
    assert spy.seen[0] == {*NET, "extra"}
    assert spy.seen[-1] == NET
    assert set(callback.result.int8_ops) == NET


class LateTeacher(Exchanging):
    """A teacher comes when the student has learned something."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher: nn.Module | None = None

    def exchange(self) -> list[nn.Module]:
        self.teacher = frozen()
        return []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        if self.teacher is None:
            return loss
        return loss + F.mse_loss(self.net(batch[0]), self.teacher(batch[0]))


def test_a_teacher_that_comes_later_stays_exact():
    callback, spy = fit(LateTeacher(), max_epochs=3)
    assert spy.seen[-1] == NET
    assert "frozen teacher" in dict(callback.result.not_quantizable)["teacher.0"]


class Parameters(Exchanging):
    def exchange(self) -> list[nn.Module]:
        self.net[2].weight = nn.Parameter(torch.randn(KINDS, 16) * 0.1)
        state = {name: one.clone() for name, one in self.net[0].state_dict().items()}
        self.net[0].load_state_dict(state, assign=True)
        return [self.net]


def test_parameters_that_are_exchanged_are_read_in_each_call():
    module = Parameters()
    callback, spy = fit(module, max_epochs=4)
    assert module.has_learned
    assert spy.seen == [NET] * len(spy.seen)
    assert callback.result.accuracy == pytest.approx(accuracy(module), abs=0.1)


def test_a_layer_that_comes_when_ranges_are_frozen_learns_its_own(tmp_path):
    saved = checkpoints(tmp_path)
    module = Head()
    module.epoch = 3
    fit(module, asked(freeze_observers=2), saved, max_epochs=4,
        enable_checkpointing=True)  # fmt: skip
    before, after = (ranges_in(tmp_path / name)["high"] for name in names_of(tmp_path)[-2:])
    assert before[0] == after[0]
    assert before[1] != after[1]


class EachBatch(Exchanging):
    """Its teacher is a copy of the student that rounds, another one in each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.done, self.teacher = True, frozen()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss + F.mse_loss(self.net(batch[0]), self.teacher(batch[0]))

    def on_train_batch_end(self, *_: Any) -> None:
        self.teacher = frozen(copy.deepcopy(self.net))


def test_a_copy_of_what_rounds_is_exact_as_a_teacher(caplog):
    with caplog.at_level(logging.INFO):
        callback, spy = fit(EachBatch(), probed="teacher")
    assert spy.seen == [NET] * 6
    assert all(spy.exact)
    assert "another" not in caplog.text
    assert "frozen teacher" in dict(callback.result.not_quantizable)["teacher.0"]
