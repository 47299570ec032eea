"""Small models, and pruners of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lpot_lightning.conf.reader import read_conf
from lpot_lightning.conf.schema import PrunerConf
from lpot_lightning.pruning.model_pruner import ModelPruner


def pruners(*given: dict[str, Any], **shared: Any) -> tuple[PrunerConf, ...]:
    """Return the pruners that a YAML asks for."""
    weights = {**shared, "pruners": list(given or ({},))}
    conf = {
        "model": {"name": "net", "framework": "pytorch_fx"},
        "pruning": {"approach": {"weight_compression": weights}},
    }
    pruning = read_conf(conf).pruning
    assert pruning is not None
    return pruning.approach.weight_compression.resolved()


class Net(nn.Module):
    """An embedding, convolutions of all kinds, a norm and linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(10, 16)
        self.conv = nn.Conv2d(16, 32, (2, 16))
        self.norm = nn.BatchNorm2d(32)
        self.up = nn.ConvTranspose2d(32, 16, (4, 16))
        self.fc = nn.Linear(16, 8)
        self.out = nn.Linear(8, 4, bias=False)

    def forward(self, x):
        x = self.emb(x)[:, :, None, None].expand(-1, -1, 4, 16)
        x = self.up(self.norm(self.conv(x)).relu()).mean((2, 3))
        return self.out(self.fc(x).relu())


def net(seed: int = 0) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net()


def step(model: nn.Module, pruner: ModelPruner, seed: int = 0, optimizer: Any = None) -> None:
    """Train for one batch."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), 0.1)
    x = torch.randint(0, 10, (8,), generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    model(x).square().sum().backward()
    pruner.observe()
    optimizer.step()
    pruner.apply()


def trained(model: nn.Module, pruner: ModelPruner, epochs: int, first: int = 0) -> None:
    """Train for some epochs of two batches."""
    for epoch in range(first, epochs):
        pruner.begin_epoch(epoch)
        for number in range(2):
            step(model, pruner, 2 * epoch + number)


def zeros(model: nn.Module) -> dict[str, int]:
    """Return how many zeros each weight has that has any."""
    weights = {n: value for n, value in model.named_parameters() if n.endswith("weight")}
    found = {name: int((value == 0).sum()) for name, value in weights.items()}
    return {name: count for name, count in found.items() if count}
