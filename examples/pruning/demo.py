"""A residual net on digits, pruned in four ways from the same dense weights.

90 % of all weights by magnitude; two of each four; half of the channels, which are cut out for
good; and the same in int8, from one YAML. Each trains for ten epochs more.

    python examples/pruning/demo.py
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from lpot_lightning import PruningResult, TuningResult, callbacks_from_conf

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "digits"))
from digits import DigitsData, LitDigits  # noqa: E402

CHECKPOINTS = Path("lpot_workspace/checkpoints")
WAYS = ("magnitude", "two_of_four", "channels", "channels_int8")
CHANNELS, EPOCHS = 32, 10


@dataclass(frozen=True)
class Row:
    """What a way of pruning came to."""

    name: str
    accuracy: float
    sparsity: float
    parameters: int
    speedup: float
    met: bool


def main() -> None:
    """Train a dense net, prune it in four ways, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ways", nargs="*", default=WAYS, metavar="WAY", help=", ".join(WAYS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dense_epochs", type=int, default=20)
    asked = parser.parse_args()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_tips)
    warnings.filterwarnings("ignore", message=".*(LeafSpec|num_workers|smaller than|not empty)")
    seed_everything(asked.seed, verbose=False)
    data = DigitsData()

    print(f"training a dense net, {asked.dense_epochs} epochs", flush=True)
    best = ModelCheckpoint(CHECKPOINTS / "dense", monitor="val_acc", mode="max")
    _fit(LitDigits(CHANNELS), data, asked.dense_epochs, best)

    rows = []
    for name in asked.ways:
        print(f"\npruning by {name}.yaml, {EPOCHS} epochs", flush=True)
        model = LitDigits.load_from_checkpoint(best.best_model_path, learning_rate=1e-3)
        kept = ModelCheckpoint(CHECKPOINTS / name, monitor="val_acc", mode="max")
        pruning, *others = callbacks_from_conf(HERE / f"{name}.yaml", monitor="val_acc")
        _fit(model, data, EPOCHS, kept, pruning, *others)
        rows.append(_row(name, *(one.result for one in (pruning, *others))))
    print("\n" + _table(float(best.best_model_score), rows))


def _fit(model: LitDigits, data: DigitsData, epochs: int, *callbacks: Callback) -> None:
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    trainer.fit(model, datamodule=data)


def _row(name: str, pruned: PruningResult, int8: TuningResult | None = None) -> Row:
    last = int8 or pruned
    speedup = (pruned.speedup or 1.0) * (int8.speedup if int8 else 1.0)
    parameters = pruned.parameters[1]
    return Row(name, last.accuracy, pruned.sparsity, parameters, speedup, last.status == "met")


def _table(dense: float, rows: list[Row]) -> str:
    lines = [f"{'':15}{'accuracy':>9}{'zeros':>8}{'parameters':>12}{'speed-up':>10}  goal"]
    lines.append(f"{'dense':15}{dense:9.4f}")
    for row in rows:
        lines.append(
            f"{row.name:15}{row.accuracy:9.4f}{row.sparsity:8.1%}{row.parameters:12,}"
            f"{row.speedup:9.2f}x  {'met' if row.met else 'missed'}"
        )
    return "\n".join(lines)


def _no_tips(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()


if __name__ == "__main__":
    main()
