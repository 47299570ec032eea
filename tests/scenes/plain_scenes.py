"""A small conv net that tells bright corners, and what a run without a Trainer is given."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lpot_lightning import Quantization

KINDS = 4
QAT = "quant_aware_training"
APPROACHES = ["post_training_static_quant", QAT]

HARD = {
    "accuracy_criterion": {"relative": -0.5},
    "strategy": {"name": "basic"},
    "exit_policy": {"max_trials": 4},
}


@functools.cache
def corners(count: int, seed: int) -> TensorDataset:
    """Return noisy images; one corner of each is bright, and that is its kind."""
    images = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    kinds = torch.arange(count) % KINDS
    for image, kind in zip(images, kinds.tolist(), strict=True):
        row, column = divmod(kind, 2)
        image[0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 0.5
    return TensorDataset(images, kinds)


def train_loader(**given: Any) -> DataLoader:
    return DataLoader(corners(256, seed=0), **{"batch_size": 32, **given})


def eval_loader(**given: Any) -> DataLoader:
    return DataLoader(corners(400, seed=1), **{"batch_size": 50, **given})


class Net(nn.Module):
    """Two convolutions with their norms, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.other = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head = nn.Linear(128, KINDS)

    def features(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(x)))
        return F.avg_pool2d(F.relu(self.other(self.second(x))), 2).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def train(model: nn.Module, *, epochs: int = 1, lr: float = 0.01) -> None:
    """Train in a loop of its own, as the user of ``q_func`` would."""
    model.train()
    adam = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(epochs):
        for images, kinds in train_loader(shuffle=True):
            adam.zero_grad()
            F.cross_entropy(model(images), kinds).backward()
            adam.step()


@functools.cache
def _trained() -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Net()
        train(net, epochs=2)
    return net.state_dict()


def net() -> Net:
    """Return a trained net, in training mode as its training has left it."""
    made = Net()
    made.load_state_dict(copy.deepcopy(_trained()))
    return made


def accuracy(model: nn.Module) -> float:
    images, kinds = corners(400, seed=1).tensors
    return float((model(images).argmax(1) == kinds).float().mean())


class Judge:
    """The accuracy, and what was seen while it was asked for; it can do something at a call."""

    def __init__(self, at: int = 0, do: Callable[[], None] = lambda: None) -> None:
        self.modes: list[bool] = []
        self._at, self._do = at, do

    @property
    def calls(self) -> int:
        return len(self.modes)

    def __call__(self, model: nn.Module) -> float:
        self.modes.append(model.training)
        if self.calls == self._at:
            self._do()
        return accuracy(model)


def conf(
    workspace: Path | str, approach: str = APPROACHES[0], *, tuning: Any = None, **quantization: Any
) -> dict[str, Any]:
    return {
        "model": {"name": "corners", "framework": "pytorch_fx"},
        "quantization": {"approach": approach, **quantization},
        "tuning": {"workspace": {"path": str(workspace)}, **(tuning or {})},
    }


def quantization(
    workspace: Path | str, approach: str = APPROACHES[0], **given: Any
) -> Quantization:
    """Return one with all that it needs, to be called with a model."""
    made = Quantization(conf(workspace, approach, **given))
    made.eval_func = accuracy
    if approach == QAT:
        made.q_func = train
    else:
        made.calib_dataloader = train_loader()
    return made
