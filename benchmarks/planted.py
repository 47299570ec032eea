"""How fast a strategy finds the ops that do not survive int8, on a net where they are known.

A MobileNet-like net (22 convolutions, 1 linear) is trained on augmented handwritten digits. In two
of its blocks the channels between two layers are rescaled over several orders of magnitude, which
changes nothing in floating point and ruins one scale for all channels: the two layers around each
such place are fragile, four in all, and no other. NNCF gets the same weights, data and criterion,
where `make bench-peers` has installed it.

    make bench
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from classifier import IMAGES, LitClassifier, Loader, digits, quiet_trainer, say_nothing
from lightning.pytorch import seed_everything
from planted_net import PlantedNet
from table import interleaved_ms, markdown, repeated

from lpot_lightning import TuningResult, quantize
from lpot_lightning.recipe import CORRECTIONS

__all__ = ["IMAGES", "LitNet", "digits", "quiet_trainer"]

HERE = Path(__file__).parent
PEER = HERE.parent / ".venv-bench" / "bin" / "python"
GOAL, BATCH = 0.01, 100

# What each way adds to the conf. "without repair" switches off everything that `auto` may try on an
# op before it goes back to fp32: the place to name it is here.
CONFS: dict[str, dict[str, Any]] = {
    "auto": {},
    "auto without repair": {
        "quantization": {
            "model_wise": {"activation": {"algorithm": "minmax"}},
            "recipes": dict.fromkeys(CORRECTIONS, False),
        }
    },
    "basic": {"tuning": {"strategy": {"name": "basic"}}},
    "mse": {"tuning": {"strategy": {"name": "mse"}}},
}


class LitNet(LitClassifier):
    """The planted net, its loss and its accuracy."""

    def __init__(self) -> None:
        super().__init__(PlantedNet())

    def plant(self) -> list[str]:
        """Make two blocks fragile and return the ops that int8 now ruins."""
        assert isinstance(self.net, PlantedNet)
        return [f"net.{name}" for name in self.net.plant()]


@dataclass(frozen=True)
class Row:
    """What one way came to."""

    way: str
    passes: float
    seconds: float
    fp32_ops: Sequence[str]
    ops: int
    baseline: float
    accuracy: float
    fp32_ms: float
    int8_ms: float
    status: str

    def cells(self, planted: Sequence[str]) -> list[str]:
        """Return the row of the table."""
        hit = len(set(self.fp32_ops) & set(planted))
        return [
            self.way,
            f"{self.passes:.1f}",
            f"{self.seconds:.1f}",
            f"{len(self.fp32_ops)} of {self.ops}",
            f"{hit} of {len(planted)}",
            f"{self.baseline:.4f}",
            f"{self.accuracy:.4f}",
            f"{self.fp32_ms:.1f}",
            f"{self.int8_ms:.1f}",
            self.status,
        ]


HEADS = [
    "way",
    "validation passes",
    "seconds, all in",
    "ops in fp32",
    "of them planted",
    "fp32 accuracy",
    "int8 accuracy",
    "fp32, ms a batch",
    "result, ms a batch",
    "status",
]


def conf_of(way: str, folder: str) -> dict[str, Any]:
    """Return the conf of one way."""
    return merged(
        {
            "model": {"name": "planted", "framework": "pytorch_fx"},
            "tuning": {
                "strategy": {"name": "auto"},
                "accuracy_criterion": {"relative": GOAL},
                "workspace": {"path": folder},
            },
        },
        CONFS[way],
    )


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``below`` with what ``above`` says instead or in addition."""
    both = dict(below)
    for key, value in above.items():
        inner = both.get(key)
        both[key] = merged(inner, value) if isinstance(inner, dict) else value
    return both


def tuned(model: LitNet, data: tuple[Loader, Loader], way: str) -> tuple[float, TuningResult]:
    """Tune ``model`` in one way and return the seconds and the result."""
    with tempfile.TemporaryDirectory() as folder:
        conf = conf_of(way, folder)
        trainer = quiet_trainer()
        started = monotonic()
        result = quantize(trainer, model, *data, conf=conf)
        return monotonic() - started, result


def ours(model: LitNet, data: tuple[Loader, Loader], ways: Sequence[str], rounds: int) -> list[Row]:
    """Tune in each way, time the results in turn, return their rows."""
    seconds: dict[str, float] = {}
    results: dict[str, TuningResult] = {}
    for way in ways:

        def once(way: str = way) -> float:
            took, results[way] = tuned(model, data, way)
            return took

        seconds[way] = repeated(once, rounds)
    ms = latencies(model, results, data[1])
    return [
        Row(
            way,
            result.evaluations,
            seconds[way],
            result.fp32_ops,
            len(result.fp32_ops) + len(result.int8_ops),
            result.baseline,
            result.accuracy,
            ms[""],
            ms[way],
            result.status,
        )
        for way, result in results.items()
    ]


def latencies(model: LitNet, results: Mapping[str, TuningResult], data: Loader) -> dict[str, float]:
    """Return the milliseconds that a batch takes in each result, and in fp32 under ``""``."""
    batch = next(iter(data))[0]
    nets = {"": model.eval().net} | {way: result.model.net for way, result in results.items()}
    with torch.no_grad():
        return interleaved_ms({way: partial(net, batch) for way, net in nets.items()})


def peer(python: Path, model: LitNet, data: tuple[Loader, Loader], rounds: int) -> Row:
    """Let NNCF have the same weights, data and criterion."""
    calibration = data[0].dataset[:BATCH][0]  # ours: the first of the training data, unshuffled
    images, labels = data[1].dataset[:]
    with tempfile.TemporaryDirectory() as folder:
        held = {
            "net": model.net.state_dict(),
            "calibration": calibration,
            "images": images,
            "labels": labels,
        }
        torch.save(held, Path(folder) / "planted.pt")
        command = [python, HERE / "nncf_peer.py", folder, "--goal", GOAL, "--rounds", rounds]
        done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    found["fp32_ops"] = [f"net.{name}" for name in found["fp32_ops"]]
    return Row(**found)


def main() -> None:
    """Train, plant, tune in each way, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ways", nargs="+", choices=CONFS, metavar="WAY", help=", ".join(CONFS))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3, help="runs that seconds are medians of")
    parser.add_argument("--peer", type=Path, default=PEER, help="the Python that has NNCF")
    parser.add_argument("--quick", action="store_true", help="one round, no `basic`")
    asked = parser.parse_args()
    rounds = 1 if asked.quick else asked.rounds
    ways = asked.ways or ["auto", "auto without repair", *([] if asked.quick else ["basic"])]
    say_nothing()
    seed_everything(1, verbose=False)
    data = digits(IMAGES, 0, train=True), digits(IMAGES, 1, train=False)
    model = LitNet()
    quiet_trainer(asked.epochs).fit(model, data[0])
    planted = model.plant()
    print(
        f"{IMAGES} validation images, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(f"planted: {', '.join(planted)}\n")
    rows = ours(model, data, ways, rounds)
    if asked.peer.exists():
        rows.append(peer(asked.peer, model, data, rounds))
    print(markdown(HEADS, [row.cells(planted) for row in rows]))
    if not asked.peer.exists():
        print("\nNNCF: not installed (make bench-peers)")


if __name__ == "__main__":
    main()
