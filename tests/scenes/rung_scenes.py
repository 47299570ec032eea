"""Small nets whose ops are on all rungs, and what is exported of them."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from deploy_scenes import captured
from int8_scenes import Batch, calibrated, converted, seeded
from torch import Tensor, nn

from lpot_lightning.deploy.onnx.onnx_file import onnx_model
from lpot_lightning.deploy.onnx.placing import Placed, placed
from lpot_lightning.module.stand_in import let_compute
from lpot_lightning.recipe import FP32, OpConfig, Recipe, Rung


class Ladder(nn.Module):
    """Words and sound: a table, layers that read the same rows, a convolution, a static one."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(20, 40), nn.LayerNorm(40)
        self.q, self.k = nn.Linear(40, 40), nn.Linear(40, 40, bias=False)
        self.wide, self.narrow = nn.Linear(40, 80), nn.Linear(80, 40)
        self.along = nn.Conv1d(40, 12, 3, padding=1, padding_mode="reflect")
        self.head = nn.Linear(12, 5)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.norm(self.table(ids))
        x = x + F.softmax(self.q(x) @ self.k(x).transpose(1, 2), -1) @ x
        x = x + self.narrow(F.gelu(self.wide(x)))
        return self.head(F.relu(self.along(x.transpose(1, 2)).mean(-1)))


MIXED = {
    "table": (Rung.WEIGHT_ONLY, 32),
    "q": (Rung.DYNAMIC, None),
    "k": (Rung.DYNAMIC, None),
    "wide": (Rung.WEIGHT_ONLY, None),
    "narrow": (Rung.WEIGHT_ONLY, 32),
    "along": (Rung.WEIGHT_ONLY, 64),
    "head": (Rung.STATIC, None),
}
"""The rung of each op, and the size of its groups."""


def words(count: int, seed: int = 0) -> Tensor:
    return torch.randint(20, (count, 6), generator=torch.Generator().manual_seed(seed))


def all_on(found: Any, rung: Rung) -> Recipe:
    """Return the recipe whose ops are on a rung, or on the next one below that they have.

    Args:
        found: the model's parts, calibrated.
        rung: see above; of several settings on it the last.
    """
    below = [*Rung][[*Rung].index(rung) :]
    settings = {op.name: [s for one in below for s in op.settings_of(one)[-1:]] for op in found.ops}
    return Recipe.of({name: (each or [FP32])[0] for name, each in settings.items()})


def on_rungs(net: nn.Module, rungs: dict[str, tuple[Rung, int | None]], *calls: Batch) -> nn.Module:
    """Return ``net`` with ops on rungs, the others in fp32, and with graphs."""
    found = calibrated(net, *calls)
    chosen = {
        op.name: _config(op.settings_of(rungs[op.name][0]), rungs[op.name][1])
        if op.name in rungs
        else FP32
        for op in found.ops
    }
    made = converted(net, found, Recipe.of(chosen))
    let_compute(made, found.graphs(made))
    return made.requires_grad_(False)


def _config(settings: tuple[OpConfig, ...], size: int | None) -> OpConfig:
    return next(one for one in settings if one.weight is not None and one.weight.group_size == size)


@cache
def ladder() -> nn.Module:
    """Return the net with all rungs; read only."""
    return on_rungs(seeded(Ladder), MIXED, Batch(words(4, 1)), Batch(words(4, 2)))


class Few(nn.Module):
    """Linear layers alone, which are exported in less time."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.wide = nn.Linear(40, 40), nn.Linear(40, 64)
        self.narrow, self.head = nn.Linear(64, 32), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.narrow(F.gelu(self.wide(self.first(x))))))


FEW = {
    "first": (Rung.DYNAMIC, None),
    "wide": (Rung.WEIGHT_ONLY, None),
    "narrow": (Rung.WEIGHT_ONLY, 32),
    "head": (Rung.STATIC, None),
}


def rows(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 40, generator=torch.Generator().manual_seed(seed))


@cache
def few_rungs() -> nn.Module:
    """Return that net on all rungs; read only."""
    return on_rungs(seeded(Few), FEW, Batch(rows(4, 1)))


@cache
def few_rungs_onnx(target: str) -> tuple[Placed, bytes]:
    """Return it as it was placed, and the ONNX model of it; read only."""
    whole = captured(few_rungs(), rows(4))
    made = placed(whole, target, [(rows(4, 1),)])
    return made, onnx_model(made.module, whole.inputs, whole.given.names, made.ops)
