"""What a trial costs besides the user's validation loop, against a pass of that loop in fp32.

That is everything from the end of one pass to the start of the next: writing the trial and the best
model down, choosing the next recipe, converting the model, leaving and entering quietness. Medians
over trials of `random`, which goes on for as many trials as asked for; the mean holds as well what
only some trials do, which is to write a new best model, and to collect garbage.

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

BOUND, COLD, WARM = 1.0, 2, 7
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


def fp32_ms(model: Timed, data: dict[str, Any]) -> float:
    """Return the median milliseconds of a pass in fp32; the first ones are cold."""
    passes: list[Pass] = []
    model.on_pass = passes.append
    own = {name: one for name, one in data.items() if name != "train_dataloaders"}
    if "val_dataloaders" in own:
        own["dataloaders"] = own.pop("val_dataloaders")
    for _ in range(COLD + WARM):
        quiet_trainer().validate(model, **own, verbose=False)
    return 1000 * statistics.median(ended - began for began, ended, _ in passes[COLD:])


def trials_of(model: Timed, data: dict[str, Any], trials: int) -> tuple[list[Pass], int]:
    """Try ``trials`` recipes; return their validation passes, and count the ops."""
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
    return whole[1:], len(result.int8_ops)


def cells(name: str, ops: int, fp32: float, trials: list[Pass]) -> list[str]:
    """Return a row of the table; what lies before the first trial is no trial's."""
    gaps = [1000 * (later[0] - earlier[1]) for earlier, later in pairwise(trials)]
    median = statistics.median(gaps)
    verdict = "met" if median < BOUND * fp32 else "NOT MET"
    return [
        name,
        str(ops),
        f"{fp32:.0f}",
        f"{median:.0f}",
        f"{statistics.mean(gaps):.0f}",
        f"{max(gaps):.0f}",
        f"{median / fp32:.2f}",
        f"{verdict}, {BOUND}",
    ]


HEADS = [
    "model",
    "ops",
    "fp32 pass, ms",
    "a trial's overhead, ms",
    "mean",
    "worst",
    "ratio",
    "bound",
]


def main() -> None:
    """Measure each model, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=21)
    parser.add_argument("--quick", action="store_true", help="the demo alone")
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
    if asked.quick:
        models = dict(list(models.items())[:1])
    rows = []
    for name, (model, data) in models.items():
        fp32 = fp32_ms(model, data)
        trials, ops = trials_of(model, data, asked.trials)
        rows.append(cells(name, ops, fp32, trials))
    print(markdown(HEADS, rows))


if __name__ == "__main__":
    main()
