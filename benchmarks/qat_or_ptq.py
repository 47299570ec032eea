"""Whether a training for int8 is ever behind `auto` on the weights that it came to.

Each net is trained in fp32, and then for a few epochs with `QATCallback`. `quantize` gets the fp32
weights of the checkpoint that the callback made int8 of, the same data and the same goal. Behind is
who loses more ops to the accuracy, or as many and is less accurate. Ops that are in fp32 because
int8 is slower stand apart: the clock decides on them, in each run anew; where they differ, other
ops are compared, and a "?" says so.

The nets are the planted one, whose two blocks are rescaled by factors from e^-2.5 to e^2.5 before
the training for int8, the cellular automaton of `examples/qat`, trained as there, and a
MobileNetV3-like one.

    make bench
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from classifier import LitClassifier, Loader, digits, say_nothing
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from nets import mobile
from planted_net import PlantedNet
from table import markdown
from today import numbers

from lpot_lightning import QATCallback, TuningResult, quantize

from automaton import DigitsData, LitAutomaton  # isort: skip  # `nets` knows where it is

GOAL, SEEDS, IMAGES = 0.01, (1, 2, 3), (3000, 2000)
RESCALED = 2.5 / math.log(10)
"""Decades to either side."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A net and how it is trained.

    Args:
        build: returns it, ready for a training at a learning rate.
        rates: of the training in fp32, and of that for int8.
        epochs: of both.
        data: training and validation.
        changed: done to it between the two.
    """

    build: Callable[[float], LightningModule]
    rates: tuple[float, float]
    epochs: tuple[int, int]
    data: Callable[[], tuple[Loader, Loader]]
    changed: Callable[[LightningModule], object] = lambda _: None


def _images() -> tuple[Loader, Loader]:
    train, val = IMAGES
    return digits(train, 0, train=True), digits(val, 1, train=False)


def _example() -> tuple[Loader, Loader]:
    data = DigitsData(batch_size=32)
    data.setup("fit")
    return data.train_dataloader(), data.val_dataloader()


def _rescale(model: LightningModule) -> None:
    assert isinstance(model.net, PlantedNet)
    model.net.plant(RESCALED)


KINDS = {
    "rescaled": Kind(
        build=lambda rate: LitClassifier(PlantedNet(), rate),
        rates=(3e-3, 3e-4),
        epochs=(4, 4),
        data=_images,
        changed=_rescale,
    ),
    "MobileNetV3-like": Kind(
        build=lambda rate: LitClassifier(mobile(), rate),
        rates=(3e-3, 3e-4),
        epochs=(5, 4),
        data=_images,
    ),
    "cellular automaton": Kind(
        build=lambda rate: LitAutomaton(rate), rates=(1e-2, 1e-3), epochs=(20, 6), data=_example
    ),
}
HEADS = [
    "net",
    "seed",
    "fp32 before / trained",
    "at least",
    "PTQ: accuracy",
    "ops lost / not paying",
    "passes",
    "QAT: accuracy",
    "ops lost / not paying",
    "passes",
    "rounds as",
    "verdict",
]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What came of the same weights.

    Args:
        before: the fp32 accuracy that the training for int8 began with.
        trained: that of the trained weights.
        ptq: of `quantize`.
        qat: of the callback.
    """

    before: float
    trained: float
    ptq: TuningResult
    qat: TuningResult

    @property
    def verdict(self) -> str:
        """Say whether the training is behind."""
        ptq, qat = lost(self.ptq), lost(self.qat)
        same = set(self.ptq.not_paying) == set(self.qat.not_paying)
        return verdict_of((len(ptq), self.ptq.accuracy), (len(qat), self.qat.accuracy), same=same)

    def cells(self, name: str, seed: int) -> list[str]:
        """Return the row of the table."""
        goal = self.qat.criterion.target(self.qat.baseline)
        return [
            name,
            str(seed),
            f"{self.before:.4f} / {self.trained:.4f}",
            f"{goal:.4f}",
            *_cells(self.ptq),
            *_cells(self.qat),
            rounding(self.qat),
            self.verdict,
        ]


def verdict_of(ptq: tuple[int, float], qat: tuple[int, float], *, same: bool) -> str:
    """Say whether the training is behind.

    Args:
        ptq: ops lost, and accuracy, without the training's rounding.
        qat: those of the training.
        same: whether the same ops do not pay.
    """
    behind = (qat[0], -qat[1]) > (ptq[0], -ptq[1])
    return ("BEHIND" if behind else "not behind") + ("" if same else "?")


def lost(result: TuningResult) -> set[str]:
    """Return the ops that are in fp32 for the accuracy."""
    return set(result.fp32_ops) - set(result.not_paying)


def rounding(result: TuningResult) -> str:
    """Say how many int8 ops round as they were trained."""
    best = next(
        trial.recipe
        for trial in result.trials
        if trial.recipe.int8_ops == result.int8_ops and trial.score.accuracy == result.accuracy
    ).as_mapping()
    kept = sum(best[op].is_trained for op in result.int8_ops)
    if kept in (0, len(result.int8_ops)):
        return "trained" if kept else "calibrated"
    return f"trained, {kept} of {len(result.int8_ops)} ops"


def _cells(result: TuningResult) -> list[str]:
    ops = len(result.fp32_ops) + len(result.int8_ops)
    met = "" if result.status == "met" else f", {result.status}"
    return [
        f"{result.accuracy:.4f}{met}",
        f"{len(lost(result))} / {len(result.not_paying)} of {ops}",
        f"{result.evaluations:.1f}",
    ]


def trainer_of(epochs: int, callbacks: Iterable[Callback] = ()) -> Trainer:
    """Return a trainer that shows nothing."""
    return Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        gradient_clip_val=1.0,
        callbacks=list(callbacks),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def fitted(
    model: LightningModule, data: tuple[Loader, Loader], epochs: int, *callbacks: Callback
) -> dict[str, Any]:
    """Train, and return the weights of the best checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        best = ModelCheckpoint(folder, monitor="val_acc", mode="max")
        trainer_of(epochs, [best, *callbacks]).fit(model, *data)
        found: dict[str, Any] = torch.load(best.best_model_path, weights_only=True)["state_dict"]
    return found


def conf_of(folder: str, criterion: dict[str, float], approach: str) -> dict[str, Any]:
    """Return the conf of both: of the data, and of how much may be lost."""
    return {
        "model": {"name": "net", "framework": "pytorch_fx"},
        "quantization": {"approach": approach},
        "tuning": {"accuracy_criterion": criterion, "workspace": {"path": folder}},
    }


def trained_for_int8(
    model: LightningModule, data: tuple[Loader, Loader], epochs: int
) -> tuple[dict[str, Any], TuningResult]:
    """Return the trained weights, and what the callback made of them."""
    with tempfile.TemporaryDirectory() as folder:
        qat = QATCallback(conf_of(folder, {"relative": GOAL}, "quant_aware_training"))
        weights = fitted(model, data, epochs, qat)
    assert qat.result is not None
    return weights, qat.result


def quantized(model: LightningModule, data: tuple[Loader, Loader], allowed: float) -> TuningResult:
    """Return what `auto` makes of a model that may lose so much."""
    with tempfile.TemporaryDirectory() as folder:
        conf = conf_of(folder, {"absolute": allowed}, "post_training_static_quant")
        return quantize(trainer_of(1), model, *data, conf=conf)


def accuracy_of(model: LightningModule, data: tuple[Loader, Loader]) -> float:
    """Return what the model's own validation says."""
    (found,) = trainer_of(1).validate(model, data[1], verbose=False)
    return found["val_acc"]


def compared(kind: Kind, seed: int, epochs: tuple[int, int]) -> Pair:
    """Train a net, and make int8 of it in both ways."""
    seed_everything(seed, verbose=False)
    data, model = kind.data(), kind.build(kind.rates[0])
    model.load_state_dict(fitted(model, data, epochs[0]))
    kind.changed(model)
    before = accuracy_of(model, data)
    tuned = kind.build(kind.rates[1])
    tuned.load_state_dict(model.state_dict())
    weights, qat = trained_for_int8(tuned, data, epochs[1])
    model.load_state_dict(weights)
    trained = accuracy_of(model, data)
    allowed = max(trained - qat.criterion.target(qat.baseline), 0.0)
    return Pair(before=before, trained=trained, ptq=quantized(model, data, allowed), qat=qat)


def main() -> None:
    """Train, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", nargs="+", choices=KINDS, metavar="NET", help=", ".join(KINDS))
    parser.add_argument("--seeds", type=numbers, help="1,2,3 unless named")
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch each")
    asked = parser.parse_args()
    say_nothing()
    seeds = asked.seeds or (SEEDS[:1] if asked.quick else SEEDS)
    threads = torch.get_num_threads()
    print(f"at most {GOAL:.0%} lost; {threads} threads, torch {torch.__version__}\n")
    print(markdown(HEADS, []), flush=True)
    for name in asked.net or KINDS:
        kind = KINDS[name]
        for seed in seeds:
            pair = compared(kind, seed, (1, 1) if asked.quick else kind.epochs)
            print(f"| {' | '.join(pair.cells(name, seed))} |", flush=True)


if __name__ == "__main__":
    main()
