"""Nets in each of which one thing stands in the way of int8, and the same without it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lpot_lightning import Quantization, TuningResult

INPUTS, WIDTH, SAMPLES = 8, 64, 1088


class Planted(nn.Module):
    """Three layers; what `middle` reads is what `plant` makes of it. All rows count alike."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle = nn.Linear(INPUTS, WIDTH), nn.Linear(WIDTH, WIDTH, bias=False)
        self.last = nn.Linear(WIDTH, 10)

    def plant(self, x: Tensor) -> Tensor:
        return x.relu()

    def forward(self, x: Tensor) -> Tensor:
        x = self.middle(self.plant(self.first(x)))
        return self.last((x / (x.norm(dim=-1, keepdim=True) + 1e-3)).relu())


class Unequal(Planted):
    """Rescales channels, and back in the weights that read them."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = 10 ** torch.linspace(-2, 2, WIDTH)
        with torch.no_grad():
            self.middle.weight /= self.sizes

    def plant(self, x: Tensor) -> Tensor:
        return x.relu() * self.sizes


class FarOut(Planted):
    """One value in a thousand lies far out, each time in another channel."""

    def plant(self, x: Tensor) -> Tensor:
        rows, channels = torch.arange(len(x))[:, None], torch.arange(WIDTH)
        far = (rows % 17 == 5) & (rows // 17 % WIDTH == channels)
        return torch.where(far, 1000.0, x.relu())


class Tailed(Planted):
    """SiLU gives small negative values, but in one row of twenty."""

    def plant(self, x: Tensor) -> Tensor:
        high = (torch.arange(len(x)) % 20 == 7)[:, None]
        return F.silu(torch.where(high, 40 * x.abs(), -1 - x.abs()))


class Transposed(nn.Module):
    """One layer has no int8 kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.up = nn.Linear(INPUTS, 16), nn.ConvTranspose1d(4, 4, 2, stride=2)
        self.last = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.up(self.first(x).relu().view(-1, 4, 4)).flatten(1))


class Upsampled(Transposed):
    """The same with layers that have one."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv1d(4, 4, 3, padding=1))


class Multiplied(nn.Module):
    """Multiplies by a weight, and is no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(INPUTS, WIDTH)
        self.weight = nn.Parameter(torch.randn(10, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x).relu() @ self.weight.t()


class AsLinear(Multiplied):
    """Does the same by the function that has a kernel."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.first(x).relu(), self.weight)


class Gate(nn.Module):
    """Goes by a value."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner(x)
        if x.sum().item() > 0:
            x = 2 * x
        return x.relu()


class WhereGate(Gate):
    """Does the same, and does not."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner(x)
        return torch.where(x.sum() > 0, 2 * x, x).relu()


class Gated(nn.Module):
    def __init__(self, gate: type[Gate]) -> None:
        super().__init__()
        self.first, self.gate = nn.Linear(INPUTS, WIDTH), gate()
        self.last = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.gate(self.first(x).relu()))


def quantized(model: nn.Module, folder: Path, goal: float = 1e-3, **asked: Any) -> TuningResult:
    """Quantize a net whose accuracy is how near its outputs come to those of fp32."""
    x = torch.randn(SAMPLES, INPUTS, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        right = model.eval()(x)

    def near(judged: nn.Module) -> float:
        with torch.no_grad():
            lost = float((judged(x) - right).norm() / right.norm())
        return 1 - lost if math.isfinite(lost) else 0.0

    tuning = {"accuracy_criterion": {"relative": goal}, "workspace": {"path": str(folder)}}
    conf = {"model": {"name": "planted", "framework": "pytorch"}, "tuning": tuning, **asked}
    quantization = Quantization(conf)
    quantization.eval_func = near
    quantization.calib_dataloader = DataLoader(x, batch_size=SAMPLES)
    quantization(model)
    assert quantization.result is not None
    return quantization.result


def yaml_in(remedy: str) -> dict[str, Any]:
    """Return the YAML that a remedy tells."""
    found: dict[str, Any] = yaml.safe_load(remedy.split("`")[-2])
    return found
