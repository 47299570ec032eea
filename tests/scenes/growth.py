"""How memory grows over trials, trainings for int8, prunings and loads in one process.

make soak
"""

from __future__ import annotations

import gc
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from fork_server import warm_up
from kill_scenes import SCENES
from ledger import parser_of, written_down
from lit_scenes import Lit, conf, train_loader, trainer, val_loader
from qat_scenes import qat, trained
from sparse_scenes import pruned, pruning

from benchmarks.memory import resident, slope
from lpot_lightning import load, quantize

BOUNDS = {"tuning of 4 trials": 0.4, "QAT fit": 0.5, "pruning fit": 0.5, "load": 0.1}
"""The MiB that one may add: 0.1 a trial, 0.5 a fit."""


def _tuning(folder: Path) -> None:
    tuning = {
        "strategy": {"name": "basic"},
        "accuracy_criterion": {"absolute": -1.0},
        "exit_policy": {"max_trials": 4},
    }
    loaders = train_loader(), val_loader()
    quantize(trainer(), Lit(), *loaders, conf=conf(folder / "tuning", tuning=tuning))


def _qat(folder: Path) -> None:
    trained(qat(folder / "qat"), max_epochs=1)


def _pruning(folder: Path) -> None:
    pruned(pruning(folder / "pruning", end_epoch=1), max_epochs=2)


def _load(folder: Path) -> None:
    at = folder / "tuning"
    load(at / "best_configure.yaml", at / "best_model_weights.pt", Lit())


KINDS: dict[str, Callable[[Path], None]] = {
    "tuning of 4 trials": _tuning,
    "QAT fit": _qat,
    "pruning fit": _pruning,
    "load": _load,
}


def sizes_over(work: Callable[[Path], None], runs: int) -> list[float]:
    """Return the MiB of this process after each of many runs, each in an empty workspace."""
    sizes = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            work(Path(folder))
        gc.collect()  # graphs are cycles of many small objects; torch's heap makes Python wait long
        sizes.append(resident())
    return sizes


def loads(runs: int) -> list[float]:
    """Return the MiB after each load of the same files."""
    sizes = []
    with tempfile.TemporaryDirectory() as folder:
        _tuning(Path(folder))
        for _ in range(runs):
            _load(Path(folder))
            gc.collect()
            sizes.append(resident())
    return sizes


def main() -> int:
    """Run, print a table, return 1 if memory grows by more than is allowed."""
    parser = parser_of(__doc__ or "", "--runs", 50)
    asked = parser.parse_args()
    torch.manual_seed(asked.seed)
    bad = 0
    sys.stdout.write(
        "| in one process | MiB first | last | slope | bound |\n|---|---|---|---|---|\n"
    )
    with tempfile.TemporaryDirectory() as folder, written_down("growth", asked) as ledger:
        warm_up(SCENES[0], Path(folder) / "warm")
        for kind, work in KINDS.items():
            sizes = loads(asked.runs) if work is _load else sizes_over(work, asked.runs)
            rise = slope(sizes)
            bad += rise > BOUNDS[kind]
            ledger.count(**{f"runs: {kind}": asked.runs})
            ledger.largest(**{f"MiB a {kind}": round(rise, 3)})
            row = f"| {asked.runs} x {kind} | {sizes[0]:.0f} | {sizes[-1]:.0f} | {rise:.3f} "
            sys.stdout.write(f"{row}| {BOUNDS[kind]} |\n")
            sys.stdout.flush()
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
