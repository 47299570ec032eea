"""A newcomer's module: dicts as batches, ``val/f1``, and a gate that goes by values."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from lit_scenes import trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassF1Score

from lpot_lightning import QuantizationCallback, TuningResult, quantize

KINDS, WIDTH = 3, 16


@functools.cache
def records(count: int, seed: int = 0) -> list[dict[str, Tensor]]:
    x = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))
    y = (x[:, :4].sum(1) > 0).long() + (x[:, 4] > 1).long()
    return [{"x": one, "y": kind} for one, kind in zip(x, y, strict=True)]


def train_loader() -> DataLoader:
    return DataLoader(records(120), batch_size=20)  # type: ignore[arg-type]


def val_loader() -> DataLoader:
    return DataLoader(records(60, seed=1), batch_size=20)  # type: ignore[arg-type]


class Gate(nn.Module):
    """Takes one of two ways, by the values that come."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.calm, self.wild = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.calm(x) if float(x.detach().abs().mean()) < 100 else self.wild(x)


class Sensor(pl.LightningModule):
    """Logs an F1 score and a loss; counts the steps of all trainings."""

    steps = 0

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(WIDTH, width), nn.ReLU(), Gate(width))
        self.head = nn.Linear(width, KINDS)
        self.f1 = MulticlassF1Score(KINDS)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.net(x)))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        Sensor.steps += 1
        return F.cross_entropy(self(batch["x"]), batch["y"])

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
        scores = self(batch["x"])
        self.f1(scores, batch["y"])
        self.log("val/f1", self.f1)
        self.log("val/loss", F.cross_entropy(scores, batch["y"]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def conf(**sections: Any) -> dict[str, Any]:
    """Return the shortest YAML as a mapping, and more sections."""
    return {"model": {"name": "sensor", "framework": "pytorch_fx"}, **sections}


def fitted(
    callback: pl.Callback, module: pl.LightningModule | None = None, *data: Any, **given: Any
) -> None:
    """Train two epochs with a callback, and others before it."""
    others = given.pop("others", ())
    one = trainer(*others, callback, **{"max_epochs": 2, **given})
    one.fit(Sensor() if module is None else module, *(data or (train_loader(), val_loader())))


def quantization(**given: Any) -> QuantizationCallback:
    """Return a callback that judges by ``val/f1``; ``sections`` are those of the YAML."""
    sections = given.pop("sections", {})
    return QuantizationCallback(conf(**sections), **{"monitor": "val/f1", **given})


def quantized(workspace: Path) -> TuningResult:
    """Quantize an untrained ``Sensor`` without a fit."""
    data, asked = (
        (train_loader(), val_loader()),
        conf(tuning={"workspace": {"path": str(workspace)}}),
    )
    return quantize(trainer(), Sensor(), *data, conf=asked, monitor="val/f1")
