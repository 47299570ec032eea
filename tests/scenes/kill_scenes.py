"""Short tuning runs that are killed, and how their ends are told apart."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lit_scenes import KINDS, WIDTH, Lit, conf, train_loader, trainer, val_loader
from torch import nn

from lpot_lightning import QuantizationCallback, TuningResult, quantize

FILES = ("best_configure.yaml", "best_model_weights.pt", "best_quantized.ckpt", "deploy.yaml")
JUDGED = 12  # samples in a validation batch, by which a pass is told from calibration and timing
LAYERS = frozenset({"0", "2", "4", "6", "8"})


class Judged(Lit):
    """Five ops, a score that differs from trial to trial, and trials that fail."""

    note: Callable[[str], None] = staticmethod(lambda line: None)

    def __init__(self) -> None:
        super().__init__()
        sizes = [WIDTH, 16, 16, 16, 16, KINDS]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            linears = [nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False)]
        self.net = nn.Sequential(*[one for layer in linears for one in (layer, nn.ReLU())][:-1])

    def training_step(self, batch, batch_idx):
        self.note("training step")
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        fp32 = self.fp32_layers()
        if batch_idx == 1 and len(batch[0]) == JUDGED:  # `quantize` has the first one seen before
            self.note("pass")
        if len(batch[0]) != JUDGED:
            self.note("calibration")
        if batch_idx == 1:
            assert fp32 != {"8"}, "this one raises"
        loss = self.net(batch[0]).square().mean()
        self.log("val_loss", loss / 0 if fp32 == {"6"} else loss)

    def fp32_layers(self) -> set[str]:
        """Return the layers of the net that are not int8 now."""
        kernel = ".lpot_int8.kernel"
        named = [name for name, _ in self.net.named_modules()]
        return LAYERS - {name.removesuffix(kernel) for name in named if name.endswith(kernel)}


@dataclasses.dataclass(frozen=True)
class Scene:
    """A run that can be begun again in the same folder, and goes on there."""

    name: str
    strategy: str
    fits: bool = False
    workers: int = 0
    trials: int = 11

    def run(self, folder: Path, note: Callable[[str], None]) -> TuningResult:
        """Run to the end, and ``note`` when the tuning, a training step or a pass begins."""
        tuning = {
            "objective": "modelsize",  # the others are measured by the clock
            "strategy": {"name": self.strategy},
            "accuracy_criterion": {"absolute": -1.0, "higher_is_better": False},
            "exit_policy": {"max_trials": self.trials},
        }
        asked = conf(folder / "workspace", tuning=tuning)
        given = {"num_workers": self.workers}
        module, data = Judged(), (train_loader(**given), val_loader(batch_size=JUDGED, **given))
        module.note = note
        if self.fits:
            return fitted(folder, module, data, asked)
        note("tuning")
        return quantize(trainer(), module, *data, conf=asked)


def fitted(folder: Path, module: Judged, data: Any, asked: Any) -> TuningResult:
    """Fit for an epoch, or go on behind it."""

    class Noted(QuantizationCallback):
        def on_fit_end(self, *given: Any) -> None:
            module.note("tuning")
            super().on_fit_end(*given)

    quantization = Noted(asked)
    kept = ModelCheckpoint(folder / "ckpt", monitor="val_loss", save_last=True)
    one = trainer(kept, quantization, max_epochs=1, enable_checkpointing=True)
    torch.manual_seed(1)
    last = "last" if (folder / "ckpt" / "last.ckpt").exists() else None
    one.fit(module, *data, ckpt_path=last)
    assert quantization.result is not None
    return quantization.result


SCENES = (
    Scene("quantize, basic", "basic"),
    Scene("quantize, auto", "auto"),
    Scene("fit, basic", "basic", fits=True),
    Scene("fit, auto", "auto", fits=True),
)


def told(result: TuningResult) -> dict[str, Any]:
    """Return what two runs of the same scene must have in common, their times left out."""
    trials = [
        (one.number, one.recipe.key, one.score.accuracy, one.score.failure, one.accepted)
        for one in result.trials
    ]
    left_out = {"trials", "held", "speedup", "speedup_spread", "workspace", "criterion"}
    left_out |= {"sensitivities", "repairs", "op_times", "not_paying", "origin"}
    fields = [one.name for one in dataclasses.fields(result) if one.name not in left_out]
    state = result.model(torch.linspace(-3, 3, WIDTH).expand(2, -1))
    shown = {name: getattr(result, name) for name in fields}
    shown["damages"] = [(one.op, one.damage) for one in result.sensitivities]
    shown["paying"] = [
        (op, *dataclasses.astuple(each[op]))
        for each in (result.op_times, result.not_paying)
        for op in sorted(each)
    ]
    shown["repairs"] = [dataclasses.astuple(one) for one in result.repairs]
    return json.loads(json.dumps({**shown, "trials": trials, "predictions": state.tolist()}))


def acknowledged(folder: Path) -> list[Any]:
    """Return the trials whose lines are whole."""
    path = folder / "workspace" / "history.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    plain = [one for one in map(json.loads, lines) if one["kind"] == "trial"]
    for one in plain:
        del one["score"]["seconds"], one["score"]["objective"], one["crc"]
    return plain


def end_of(folder: Path) -> dict[str, Any]:
    """Return all that a run leaves."""
    workspace = folder / "workspace"
    found = {name: (workspace / name).read_bytes() for name in FILES}
    files = sorted(one.name for one in workspace.iterdir())
    result = json.loads((folder / "result").read_text())
    return {**found, "trials": acknowledged(folder), "files": files, "result": result}


class Notes:
    """Lines that survive a kill."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, line: str) -> None:
        """Append a line with one write."""
        with open(self._path, "ab", buffering=0) as file:
            file.write(line.encode() + b"\n")

    def lines(self) -> list[str]:
        """Return all of them."""
        return self._path.read_text().splitlines() if self._path.exists() else []
