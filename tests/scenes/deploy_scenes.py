"""Small int8 models with their graphs, and exports of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from int8_scenes import Batch, calibrated, converted, seeded
from torch import Tensor, nn

from lpot_lightning.deploy.calls import Signature
from lpot_lightning.deploy.export import export_model
from lpot_lightning.deploy.exported import Exported
from lpot_lightning.deploy.onnx.onnx_file import onnx_model
from lpot_lightning.deploy.onnx.placing import Placed, placed
from lpot_lightning.deploy.options import ExportOptions
from lpot_lightning.deploy.origin import Call, Origin
from lpot_lightning.deploy.whole_graph import WholeGraph, whole_graph
from lpot_lightning.module.stand_in import let_compute


class SmallNet(nn.Module):
    """A stem, a residual block, a depthwise convolution with another activation, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.block = nn.Conv2d(8, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, 2, 1, groups=8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(x + self.block(x))
        return self.head(F.hardswish(self.depthwise(x)).mean((2, 3)))

    def encode(self, images: Tensor) -> dict[str, Tensor]:
        """Give what the head reads, by name."""
        x = self.stem(images)
        return {"features": self.block(x).flatten(1), "mean": x.mean((2, 3))}


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def int8_of(net: nn.Module, *calls: Batch) -> nn.Module:
    """Return ``net`` in int8 with graphs, as a run gives it."""
    found = calibrated(net, *calls)
    made = converted(net, found)
    let_compute(made, found.graphs(made))
    return made.requires_grad_(False)


@cache
def small_net() -> nn.Module:
    """Return the fp32 net; read only."""
    return seeded(SmallNet)


@cache
def small_int8() -> nn.Module:
    """Return the int8 net; read only."""
    return int8_of(small_net(), Batch(images(4, 1)), Batch(images(4, 2)))


def origin(*calls: Any, **more: Any) -> Origin:
    """Return where a model comes from that is called with these."""
    found = tuple(one if isinstance(one, Call) else Call((one,)) for one in calls)
    usual = (Call((images(4, 1),)),)
    return Origin(**{"root": "", "calls": found or usual, **more})


def captured(model: nn.Module, *args: Any, path: str = "", **how: Any) -> WholeGraph:
    call = Call(args or (images(4),))
    return whole_graph(
        model, path, lambda function: Signature.of(path or "forward", function, call, **how)
    )


def exported(model: nn.Module, path: Path, of: Origin | None = None, **options: Any) -> Exported:
    return export_model(model, path, ExportOptions(**options), of or origin())


def answer(model: nn.Module, *given: Tensor) -> Sequence[Tensor]:
    with torch.no_grad():
        found = model(*given)
    return [found] if isinstance(found, Tensor) else found


def far(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@cache
def small_onnx(target: str = "onnxruntime") -> tuple[Placed, bytes]:
    """Return the int8 net with pairs, and the ONNX model of it; read only."""
    whole = captured(small_int8())
    made = placed(whole, target, [(images(4, 1),)])
    return made, onnx_model(made.module, whole.inputs, whole.given.names, made.ops)
