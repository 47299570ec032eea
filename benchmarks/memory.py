"""Whether memory stays flat over many trials, failing ones among them, and over many runs.

make bench
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import resource
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lpot_lightning import quantize

WIDTH, LAYERS, BATCHES = 256, 100, 3
BOUND = 0.1


class LitDeep(LightningModule):
    """Many layers; each whole validation pass is told to ``on_pass``."""

    def __init__(self, on_pass: Callable[[], None], layers: int = LAYERS) -> None:
        super().__init__()
        pairs = [(nn.Linear(WIDTH, WIDTH), nn.ReLU()) for _ in range(layers)]
        self.net = nn.Sequential(*[layer for pair in pairs for layer in pair])
        self.on_pass = on_pass

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Log the size of the output."""
        self.log("loss", self.net(batch[0]).square().mean())
        if batch_idx == BATCHES - 1:
            self.on_pass()


def resident() -> float:
    """Return the MiB of memory that this process has now, or had at most where nobody knows."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE") / 2**20
    except FileNotFoundError:
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def slope(sizes: list[float]) -> float:
    """Return the MiB that each one adds, by least squares over the last three quarters."""
    kept = sizes[len(sizes) // 4 :]
    return statistics.linear_regression(range(len(kept)), kept).slope


def tuned(module: LightningModule, trials: int) -> Any:
    """Try ``trials`` recipes, none of which is good enough."""
    train = DataLoader(TensorDataset(torch.randn(64, WIDTH)), batch_size=64)
    data = DataLoader(TensorDataset(torch.randn(16 * BATCHES, WIDTH)), batch_size=16)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        conf = {
            "model": {"name": "deep", "framework": "pytorch_fx"},
            "tuning": {
                "strategy": {"name": "basic"},
                "accuracy_criterion": {"absolute": -1.0, "higher_is_better": False},
                "exit_policy": {"max_trials": trials},
                "workspace": {"path": folder},
            },
        }
        return quantize(trainer, module, train, data, conf=conf)


def over_trials(trials: int) -> tuple[list[float], int]:
    """Return the size at each validation pass of one run, and how many trials raised."""
    sizes: list[float] = []

    def on_pass() -> None:
        sizes.append(resident())
        if len(sizes) > 10 and len(sizes) % 5 == 0:
            raise RuntimeError("every fifth trial fails")

    result = tuned(LitDeep(on_pass), trials)
    failed = sum(trial.score.failed for trial in result.trials)
    assert len(result.trials) == trials
    return sizes[-trials:], failed


def over_runs(runs: int) -> list[float]:
    """Return the size after each of many runs of a small net."""
    sizes: list[float] = []
    for _ in range(runs):
        tuned(LitDeep(lambda: None, layers=8), trials=4)
        gc.collect()  # graphs are cycles of many small objects; torch's heap makes Python wait long
        sizes.append(resident())
    return sizes


def row(what: str, unit: str, sizes: list[float]) -> str:
    """Return a row of the table."""
    rise = slope(sizes)
    verdict = "" if unit != "trial" else f"{'met' if rise <= BOUND else 'NOT MET'}, {BOUND}"
    return f"| {what} | {sizes[0]:.0f} | {sizes[-1]:.0f} | {rise:.3f} a {unit} | {verdict} |"


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="40 trials, 5 runs")
    asked = parser.parse_args()
    if asked.quick:
        asked.trials, asked.runs = 40, 5
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    runs = over_runs(asked.runs)
    trials, failed = over_trials(asked.trials)
    net = LAYERS * (WIDTH * WIDTH + WIDTH) * 4 / 2**20
    print("| memory in MiB | first | last | slope | bound |\n|---|---|---|---|---|")
    what = f"{asked.trials} trials of a net of {net:.1f} MiB, {failed} of which raise"
    print(row(what, "trial", trials))
    print(row(f"{asked.runs} runs of `quantize`, 4 trials each", "run", runs))


if __name__ == "__main__":
    main()
