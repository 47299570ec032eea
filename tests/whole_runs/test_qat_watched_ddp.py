"""Two processes that train a model for int8 whose layers are exchanged, or that has teachers."""

from __future__ import annotations

from datetime import timedelta

import lightning.pytorch as pl
import pytest
import torch
from frozen_scenes import Distilled, Head, Probed, asked
from lightning.pytorch.strategies import DDPStrategy
from lit_scenes import points, trainer
from torch import nn
from torch.utils.data import DataLoader


@pytest.fixture(autouse=True)
def _one_thread():
    """A forked process has none of the threads that torch would wait for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def two(*callbacks):
    """Return a Trainer whose fit runs in two processes of its own."""
    strategy = DDPStrategy(
        start_method="fork", timeout=timedelta(seconds=30), find_unused_parameters=True
    )
    return trainer(*callbacks, strategy=strategy, devices=2, max_epochs=2)


class Noted(pl.Callback):
    """Writes each process's ranges and weights down after each batch."""

    def __init__(self, callback, folder):
        self._callback, self._folder = callback, folder

    def on_train_batch_end(self, trainer, module, *_):
        state = {
            **self._callback._fit.training.state()["ranges"],
            **{name: value.clone() for name, value in module.named_parameters()},
        }
        torch.save(state, self._folder / f"{trainer.global_step}_{trainer.global_rank}.pt")


class Sometimes(Probed):
    """One of the processes trains with the backbone, validation never."""

    def training_step(self, batch, batch_idx):
        x = self.features(batch[0]) if self.global_rank == 1 else batch[0]
        return nn.functional.cross_entropy(self.net(x), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())


class InBoth(Head):
    def exchange(self):
        torch.manual_seed(3)  # DDP sends no weights of layers that come later
        return super().exchange()

    def on_after_backward(self):
        if self.done:  # nor their gradients
            for one in self.net[2].parameters():
                torch.distributed.all_reduce(one.grad, op=torch.distributed.ReduceOp.AVG)


def fit(tmp_path, module) -> list[dict]:
    """Train in two processes; return what one of them had after each batch, the same in both."""
    callback = asked()
    loaders = DataLoader(points(48), batch_size=8), DataLoader(points(48, seed=1), batch_size=8)
    two(callback, Noted(callback, tmp_path)).fit(module, *loaders)
    steps = sorted(tmp_path.glob("*_0.pt"), key=lambda path: int(path.name.split("_")[0]))
    states = []
    for path in steps:
        other = path.with_name(path.name.replace("_0", "_1"))
        mine, theirs = (torch.load(one, weights_only=True) for one in (path, other))
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
        states.append(mine)
    assert callback.result is not None
    return states


def test_an_exchanged_layer_has_the_same_ranges_in_both(tmp_path):
    states = fit(tmp_path, InBoth())
    assert [len(one["high"]) for one in states] == [2] * 6
    assert torch.isfinite(states[-1]["high"]).all()


def test_what_one_process_feeds_from_a_frozen_module_rounds_in_both(tmp_path):
    states = fit(tmp_path, Sometimes())
    assert [len(one["high"]) for one in states] == [2, *[3] * 5]


def test_a_teacher_is_one_in_both(tmp_path):
    assert [len(one["high"]) for one in fit(tmp_path, Distilled())] == [2] * 6
