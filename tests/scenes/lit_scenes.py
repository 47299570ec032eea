"""Tiny LightningModules on points that a line can separate, and runs of them."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from lpot_lightning import QuantizationCallback

KINDS, WIDTH = 3, 8
CENTRES = torch.eye(KINDS, WIDTH) * 4


@functools.cache
def points(count: int, seed: int = 0) -> TensorDataset:
    """Return points around three centres; their order is no secret: 0, 1, 2, 0, 1, 2, …"""
    noise = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(count) % KINDS
    return TensorDataset(CENTRES[labels] + 0.5 * noise, labels)


def train_loader(count: int = 120, **given: Any) -> DataLoader:
    return DataLoader(points(count), **{"batch_size": 16, "shuffle": True, **given})


def val_loader(count: int = 48, **given: Any) -> DataLoader:
    return DataLoader(points(count, seed=1), **{"batch_size": 16, **given})


def small_net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, 16), nn.ReLU(), nn.Linear(16, KINDS))


@functools.cache
def _trained() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = small_net()
        x, y = points(96).tensors
        adam = torch.optim.Adam(net.parameters(), lr=0.05)
        for _ in range(40):
            adam.zero_grad()
            F.cross_entropy(net(x), y).backward()
            adam.step()
    return net.state_dict()


class Lit(pl.LightningModule):
    """A trained classifier that logs a torchmetrics object, ``val_acc``."""

    def __init__(self, lr: float = 0.0) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = small_net()
        self.net.load_state_dict(_trained())
        self.acc = MulticlassAccuracy(KINDS, average="micro")

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.acc(self.net(batch[0]), batch[1])
        self.log("val_acc", self.acc)

    test_step = validation_step

    def predict_step(self, batch, batch_idx):
        return self.net(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


class Late(Lit):
    """Has no net before ``configure_model``."""

    def __init__(self) -> None:
        super().__init__()
        self.state, self.net = self.net.state_dict(), None

    def configure_model(self):
        if self.net is None:
            self.net = small_net()
            self.net.load_state_dict(self.state)


class LossLit(Lit):
    """Logs plain numbers: a loss and an accuracy."""

    def validation_step(self, batch, batch_idx):
        logits = self.net(batch[0])
        self.log("val_loss", F.cross_entropy(logits, batch[1]))
        self.log("val_hits", (logits.argmax(1) == batch[1]).float().mean())


class Points(pl.LightningDataModule):
    """Builds its data in ``setup`` and remembers the stages."""

    def __init__(self) -> None:
        super().__init__()
        self.stages: list[str] = []

    def setup(self, stage):
        self.stages.append(stage)
        self.train, self.val = points(120), points(48, seed=1)

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=16, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=16)

    test_dataloader = predict_dataloader = val_dataloader


def conf(workspace: Path | str | None = None, **sections: Any) -> dict[str, Any]:
    """Return an LPOT YAML as a mapping; ``tuning`` is merged with the workspace."""
    tuning = {**sections.pop("tuning", {})}
    if workspace is not None:
        tuning["workspace"] = {"path": str(workspace)}
    return {"model": {"name": "net", "framework": "pytorch_fx"}, "tuning": tuning, **sections}


def sampling(size: int) -> dict[str, Any]:
    return {"calibration": {"sampling_size": size}}


def trainer(*callbacks: pl.Callback, **given: Any) -> pl.Trainer:
    """Return a Trainer that does nothing but what is asked for."""
    return pl.Trainer(
        callbacks=list(callbacks),
        **{
            "max_epochs": 0,
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            **given,
        },
    )


def fitted(
    callback: QuantizationCallback,
    module: pl.LightningModule | None = None,
    *data: Any,
    others: tuple[pl.Callback, ...] = (),
    datamodule: pl.LightningDataModule | None = None,
    ckpt_path: str | None = None,
    **given: Any,
) -> pl.Trainer:
    """Fit, quantize, check that the user's world is as before, and return the Trainer."""
    from users_world import watched

    one = trainer(*others, watched(callback), **given)
    if not data and datamodule is None:
        data = (train_loader(), val_loader())
    one.fit(Lit() if module is None else module, *data, datamodule=datamodule, ckpt_path=ckpt_path)
    assert callback.watched == 1
    return one


def files_in(folder: Path) -> list[str]:
    """Return what a run left in its workspace; the lock is always there."""
    return sorted({path.name for path in folder.iterdir()} - {"lock"})


def weights_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return copy.deepcopy(module.state_dict())


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
