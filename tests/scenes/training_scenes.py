"""Nets that round while they train, and what becomes of them in int8."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lpot_lightning.module.calls import recorded
from lpot_lightning.module.copying import second_model
from lpot_lightning.module.stand_in import put, replaced
from lpot_lightning.quantization.layers import PreparedLayers
from lpot_lightning.quantization.onednn import OnednnBackend
from lpot_lightning.quantization.training.training import LayersTraining
from lpot_lightning.recipe import Recipe
from lpot_lightning.tuning.repair import equalized
from lpot_lightning.tuning.space import Space

BACKEND = OnednnBackend()


class Residual(nn.Module):
    """Convolutions with norms, sums, a grouped one, dropout and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.wide = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.wide_norm, self.act = nn.BatchNorm2d(8), nn.ReLU()
        self.last = nn.Conv2d(8, 8, 3, padding=1)
        self.drop, self.head = nn.Dropout(0.2), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = x + self.act(self.wide_norm(self.wide(x)))
        x = x + self.last(x)
        return self.head(self.drop(F.adaptive_avg_pool2d(x, 1).flatten(1)))


class Tokens(nn.Module):
    """An embedding, a bag of them, and a head."""

    def __init__(self, *, sparse: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 8, padding_idx=0, sparse=sparse)
        self.bag = nn.EmbeddingBag(50, 8, mode="sum", sparse=sparse)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.table(x).mean(1), self.bag(x)], 1))


class Attention(nn.Module):
    """Attention across two inputs, whose weights are slices of one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(16, 2, batch_first=True), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        found, _ = self.attention(x, x.flip(1), x, need_weights=False)
        return self.head(found.mean(1))


class Standardized(nn.Module):
    """Computes its weight anew in each call, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.randn(8, 3, 3, 3))
        self.two = nn.Parameter(torch.randn(4, 8))

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.one - self.one.mean()) / self.one.std()
        x = F.relu(F.conv2d(x, weight, padding=1)).mean((2, 3))
        return F.linear(x, self.two * 2)


def shown(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


IMAGES = shown(32, 3, 8, 8)


def seeded(make: Any) -> nn.Module:
    """Return a net with weights that are always the same, and norms that have seen something."""
    torch.manual_seed(0)
    model: nn.Module = make().eval()
    for one in model.modules():
        if isinstance(one, nn.modules.batchnorm._BatchNorm):
            one.running_mean.normal_(0, 0.2)
            one.running_var.uniform_(0.5, 2)
    return model


def all_int8(found: PreparedLayers) -> Recipe:
    return Recipe.of({op.name: op.configs[0] for op in found.ops})


def prepared(model: nn.Module, *batches: Tensor, **how: Any) -> PreparedLayers:
    """Return the layers of a copy of ``model``, which has seen the batches."""
    second = second_model(model).eval()
    with torch.no_grad(), recorded(second) as calls:
        second(batches[0])
    found = BACKEND.prepare(second, calls, **how)
    with torch.no_grad(), replaced(second, found.observed):
        for batch in batches:
            second(batch)
    found.settle()
    return found


def training_for(
    model: nn.Module, batch: Tensor = IMAGES, *fp32: str, evened: bool = False
) -> LayersTraining:
    """Return the training of a model, with some ops in fp32."""
    found = prepared(model, batch, for_training=True)
    recipe = all_int8(found).with_fp32(fp32)
    if evened:
        recipe, _ = equalized(recipe, Space(found.ops), found.error)
    return BACKEND.training(found, recipe)


def train(
    model: nn.Module,
    training: LayersTraining,
    batch: Tensor = IMAGES,
    steps: int = 5,
    lr: float = 0.05,
) -> nn.Module:
    model.train()
    sgd = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(steps):
        sgd.zero_grad()
        model(batch).square().mean().backward()
        sgd.step()
        training.end_batch()
    training.observing = False
    return model.eval()


def trained(
    model: nn.Module, training: LayersTraining, batch: Tensor = IMAGES, **given: Any
) -> tuple[Tensor, dict[str, Any]]:
    """Train with the rounding; return what the model gives with it, and the state."""
    training.observing = True
    with training.attached(model):
        out = train(model, training, batch, **given)(batch)
    return out.detach(), training.state()


def int8(model: nn.Module, state: dict[str, Any]) -> nn.Module:
    """Return the int8 model that a state alone gives, with its graphs."""
    second = second_model(model).eval()
    put(second, BACKEND.int8_of(second, state))
    second.requires_grad_(False)
    BACKEND.join(second, state)
    return second


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())
