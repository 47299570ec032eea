"""What a trial costs besides the user's validation loop, against a pass of that loop in fp32.

That is everything from the end of one pass to the start of the next: writing the trial and the best
model down, choosing the next recipe, converting the model, leaving and entering quietness. Medians
over trials of `random`, which goes on for as many trials as asked for.

    make bench
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

from classifier import IMAGES, LitClassifier, digits, quiet_trainer, say_nothing
from lightning.pytorch import LightningModule, seed_everything
from nets import KINDS
from planted_net import PlantedNet
from table import markdown

from lpot_lightning import quantize

sys.path.append(str(Path(__file__).parents[1] / "examples" / "digits"))
from digits import DigitsData, LitDigits  # noqa: E402

BOUND = 1.0
Pass = tuple[float, float, int]


class Timed(LightningModule):
    """Tells ``on_pass`` when each validation loop began and ended, and its batches."""

    on_pass: Callable[[Pass], None]

    def on_validation_start(self) -> None:
        """Start the clock."""
        self.began, self.batches = perf_counter(), 0

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        """Count."""
        self.batches += 1

    def on_validation_end(self) -> None:
        """Stop the clock."""
        self.on_pass((self.began, perf_counter(), self.batches))


class TimedClassifier(Timed, LitClassifier):
    """A net on the digits of these benchmarks."""


class TimedDigits(Timed, LitDigits):
    """The model of the demo."""


def passes_of(model: Timed, data: dict[str, Any], trials: int) -> tuple[list[Pass], int]:
    """Try ``trials`` recipes; return the whole validation passes, fp32 first, and count the ops."""
    passes: list[Pass] = []
    model.on_pass = lambda one: passes.append(one)  # a function is shared by copies
    with tempfile.TemporaryDirectory() as folder:
        conf = {
            "model": {"name": "overhead", "framework": "pytorch_fx"},
            "tuning": {
                "strategy": {"name": "random"},
                "accuracy_criterion": {"relative": 0.99},
                "exit_policy": {"max_trials": trials, "timeout": 3600},
                "workspace": {"path": folder},
            },
        }
        result = quantize(quiet_trainer(), model, **data, conf=conf)
    assert len(result.trials) == trials
    most = max(batches for _, _, batches in passes)
    whole = [one for one in passes if one[2] == most]
    assert len(whole) == 1 + trials
    return whole, len(result.int8_ops)


def cells(name: str, ops: int, whole: list[Pass]) -> list[str]:
    """Return a row of the table; what lies between baseline and first trial is no trial's."""
    fp32 = 1000 * (whole[0][1] - whole[0][0])
    gaps = [1000 * (later[0] - earlier[1]) for earlier, later in pairwise(whole[1:])]
    median = statistics.median(gaps)
    verdict = "met" if median < BOUND * fp32 else "NOT MET"
    return [
        name,
        str(ops),
        f"{fp32:.0f}",
        f"{median:.0f}",
        f"{max(gaps):.0f}",
        f"{median / fp32:.2f}",
        f"{verdict}, {BOUND}",
    ]


HEADS = ["model", "ops", "fp32 pass, ms", "a trial's overhead, ms", "worst", "ratio", "bound"]


def main() -> None:
    """Measure each model, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=21)
    parser.add_argument("--quick", action="store_true", help="seven trials")
    asked = parser.parse_args()
    say_nothing()
    loaders = {
        "train_dataloaders": digits(IMAGES, 0, train=True),
        "val_dataloaders": digits(IMAGES, 1, train=False),
    }
    seed_everything(1, verbose=False)
    models: dict[str, tuple[Timed, dict[str, Any]]] = {
        "demo (597 images)": (TimedDigits(), {"datamodule": DigitsData()}),
        "planted net": (TimedClassifier(PlantedNet()), loaders),
    }
    for name, kind in KINDS.items():
        models[name] = TimedClassifier(kind.build()), loaders
    rows = []
    for name, (model, data) in models.items():
        whole, ops = passes_of(model, data, 7 if asked.quick else asked.trials)
        rows.append(cells(name, ops, whole))
    print(markdown(HEADS, rows))


if __name__ == "__main__":
    main()
