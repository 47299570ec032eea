"""A run without a Trainer: a small net, agreement with fp32 as its accuracy."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lpot_lightning.conf.reader import read_conf
from lpot_lightning.judging.protocols import Evaluation, Monitor
from lpot_lightning.recipe import CORRECTIONS
from lpot_lightning.runs.options import Listener, Options
from lpot_lightning.runs.quantize import quantize_model
from lpot_lightning.runs.tuning_result import TuningResult
from lpot_lightning.runs.workspace import Workspace
from lpot_lightning.tuning.trial import Trial

NO_REPAIR = {"recipes": dict.fromkeys(CORRECTIONS, False)}
"""A ``quantization`` section that leaves fp32 as the only way out."""


class Net(nn.Module):
    """Four layers; the input of `narrow` can be made fragile."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 32)
        self.wide = nn.Linear(32, 32)
        self.narrow = nn.Linear(32, 16)
        self.last = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.wide(F.relu(self.first(x))))
        return self.last(F.relu(self.narrow(x)))

    @torch.no_grad()
    def make_fragile(self) -> None:
        """Rescale what lies between ``wide`` and ``narrow``; fp32 stays as it was."""
        scale = 10 ** torch.linspace(-4, 4, 32)
        self.wide.weight *= scale[:, None]
        self.wide.bias *= scale
        self.narrow.weight /= scale


def net(*, fragile: bool = False) -> Net:
    torch.manual_seed(0)
    made = Net().eval()
    if fragile:
        made.make_fragile()
    return made


class Agreement:
    """Judges a model by how often it says what the fp32 model said."""

    monitor = Monitor("agreement", True)

    def __init__(
        self,
        model: nn.Module,
        spoil: Callable[[float], float] = lambda right: right,
        spoil_all: Callable[[float], float] = lambda right: right,
    ) -> None:
        self.model = copy.deepcopy(model)
        draw = torch.Generator().manual_seed(1)
        self.inputs = torch.randn(512, 8, generator=draw)
        self.batches: Any = (self.inputs[:64], self.inputs[64:128])
        self.samples = 128
        self.truth = self._classes(model)
        self.passes = 0
        self._spoil, self._spoil_all = spoil, spoil_all

    def _classes(self, model: nn.Module) -> Tensor:
        with torch.no_grad():
            return model(self.inputs).argmax(1)

    def fresh(self) -> nn.Module:
        return copy.deepcopy(self.model)

    def try_out(self, model: nn.Module) -> nn.Module:
        with torch.no_grad():
            model(self.batches[0])
        return model

    def calibrate(self, model: nn.Module) -> None:
        with torch.no_grad():
            for batch in self.batches:
                model(batch)

    def seen(self, model: nn.Module) -> None:
        return None

    def evaluate(self, model: nn.Module, label: str, watch: Any = None) -> Evaluation:
        self.passes += 1
        right = self._spoil_all(float((self._classes(model) == self.truth).float().mean()))
        return Evaluation(
            accuracy=right if label == "baseline" else self._spoil(right),
            monitor=self.monitor,
            batches=8,
            seconds=0.01,
        )

    def step_seconds(self, model: nn.Module, runs: int = 1) -> list[float]:
        for _ in range(runs):
            self.try_out(model)
        return [1.0] * runs


def run(
    model: nn.Module,
    runner: Agreement | None = None,
    *,
    folder: Path | None = None,
    modules: tuple[str, ...] = (),
    on_trial: Callable[[Trial], None] = lambda trial: None,
    said: list[str] | None = None,
    quantization: dict[str, Any] | None = None,
    **tuning: Any,
) -> TuningResult:
    asked: dict[str, Any] = {"model": {"name": "small", "framework": "pytorch_fx"}}
    if quantization:
        asked["quantization"] = quantization
    if tuning:
        asked["tuning"] = tuning
    say = (said if said is not None else []).append
    listener = Listener(say=say, trial=lambda trial, _: on_trial(trial))
    conf = read_conf(asked)
    workspace = Workspace(folder, Workspace.of(conf).resume)
    options = Options(modules=modules, workspace=workspace)
    runner = runner or Agreement(model)
    return quantize_model(model, conf, runner, runner, options, listener)
