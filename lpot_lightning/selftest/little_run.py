"""A tuning of a tiny net that takes a fraction of a second, and what it leaves."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lpot_lightning.artifacts.earlier import DEPLOY, HISTORY, RESULT
from lpot_lightning.artifacts.restore import load
from lpot_lightning.artifacts.storage import CONFIGURE, WEIGHTS
from lpot_lightning.errors import LpotError
from lpot_lightning.lpot.quantization import Quantization
from lpot_lightning.machine.lock import WorkspaceLock
from lpot_lightning.runs.tuning_result import TuningResult
from lpot_lightning.selftest.scene import Note

WIDTH, KINDS, TRIALS = 8, 4, 4
FILES = (CONFIGURE, WEIGHTS, DEPLOY)
_BY_THE_CLOCK = ("seconds", "objective")


class TinyNet(nn.Module):
    """Three layers, any of which may fall back."""

    def __init__(self) -> None:
        super().__init__()
        widths = [WIDTH, 16, 16, KINDS]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers = [nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)]
        self.net = nn.Sequential(*[one for layer in layers for one in (layer, nn.ReLU())][:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Compute scores."""
        scores: Tensor = self.net(x)
        return scores


class LittleRun:
    """A tuning that no recipe satisfies, so that it tries several."""

    name = "tuning"
    begins = "tuning"

    def prepare(self, folder: Path) -> None:
        """Put nothing there."""

    def run(self, folder: Path, note: Note) -> Mapping[str, Any]:
        """Tune, or go on, to the end."""
        model, data = TinyNet().eval(), inputs()

        def judged(candidate: nn.Module) -> float:
            note("pass")
            with torch.no_grad():
                return float((candidate(data) - model(data)).square().mean())

        quantization = Quantization(_conf(folder / "workspace"))
        quantization.calib_dataloader = DataLoader(TensorDataset(data), batch_size=8)
        quantization.eval_func = judged
        note("tuning")
        quantization(model)
        assert quantization.result is not None
        return _told(quantization.result, data)

    def written(self, folder: Path) -> list[Path]:
        """Return the workspace."""
        return [folder / "workspace"]

    def acknowledged(self, folder: Path) -> list[Any]:
        """Return the trials whose lines are whole."""
        return finished_trials(folder / "workspace" / HISTORY)

    def repeated(self, done: Counter[str], more: int, *, ended: bool) -> str:
        """Return whether trials were judged twice."""
        return judged_twice(done, more, ended=ended)

    def unreadable(self, folder: Path) -> Iterator[str]:
        """Yield why the model cannot be loaded, or the workspace not be locked."""
        yield from unreadable_in(folder / "workspace", TinyNet(), inputs())

    def end_of(self, folder: Path) -> dict[str, Any]:
        """Return all that a run leaves."""
        workspace = folder / "workspace"
        return {
            **{name: (workspace / name).read_bytes() for name in FILES},
            "trials": self.acknowledged(folder),
            "files": sorted(one.name for one in workspace.iterdir()),
            "result": json.loads((folder / "result").read_text()),
        }


def finished_trials(history: Path) -> list[Any]:
    """Return the trials of a history whose lines are whole, without what the clock says."""
    lines = history.read_bytes().split(b"\n")[:-1] if history.exists() else []
    trials = [one for one in map(json.loads, lines) if one["kind"] == "trial"]
    for one in trials:
        del one["crc"]
        for name in _BY_THE_CLOCK:
            del one["score"][name]
    return trials


def judged_twice(done: Counter[str], more: int, *, ended: bool) -> str:
    """Return whether a run judged more than it finished; a killed one may be in the middle."""
    spare = done["pass"] - more
    return "" if spare in ((0,) if ended else (0, 1)) else f"{spare} passes more than trials"


def unreadable_in(workspace: Path, model: nn.Module, x: Tensor) -> Iterator[str]:
    """Yield what cannot be read though it is there, or cannot be locked though nobody is."""
    configure, weights = workspace / CONFIGURE, workspace / WEIGHTS
    try:
        if configure.exists() and not load(configure, weights, model)(x).isfinite().all():
            yield "the model computes what is not finite"
        if workspace.exists():
            _lock(workspace)
    except LpotError as error:
        yield str(error)


def _lock(workspace: Path) -> None:
    left = {path: path.read_bytes() for path in workspace.glob(".lpot-*") if path.is_file()}
    with WorkspaceLock(workspace):
        pass
    for path, content in left.items():  # it is the next run that has to sweep
        path.write_bytes(content)


def inputs() -> Tensor:
    """Return what it is calibrated and judged on."""
    return torch.randn(32, WIDTH, generator=torch.Generator().manual_seed(1))


def _conf(workspace: Path) -> dict[str, Any]:
    return {
        "model": {"name": "tiny", "framework": "pytorch_fx"},
        "tuning": {
            "objective": "modelsize",  # the others are measured by the clock
            "strategy": {"name": "basic"},
            "accuracy_criterion": {"absolute": -1.0, "higher_is_better": False},
            "exit_policy": {"max_trials": TRIALS},
            "workspace": {"path": str(workspace)},
        },
    }


def _told(result: TuningResult, data: Tensor) -> dict[str, Any]:
    """Return what two runs must have in common."""
    return {
        "accuracy": result.accuracy,
        "status": result.status,
        "fp32": list(result.fp32_ops),
        "predictions": result.model(data).tolist(),
        "trials": [(one.recipe.key, one.score.accuracy, one.accepted) for one in result.trials],
        "kept": result.workspace is not None and (result.workspace / RESULT).is_file(),
    }
