"""Train a net on handwritten digits, and keep it in a file with all data that ways are given.

python training.py ResNet .compare/ResNet.pt
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

import torch
import torch.nn.functional as F
from classifier import LitClassifier, digits, quiet_trainer, say_nothing
from families import FAMILIES
from lightning.pytorch import seed_everything
from making import key
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

IMAGES, VALIDATION, CALIBRATION, BATCH = 5000, 3000, 100, 100
QUICK_IMAGES, QUICK_VALIDATION = 3000, 800
LEVELS = 15


class LitLearner(LitClassifier):
    """A net whose learning rate goes up and down once."""

    def configure_optimizers(self) -> dict[str, object]:  # type: ignore[override]
        """Return the optimizer and its schedule."""
        adam = torch.optim.AdamW(self.parameters(), lr=self.learning_rate)
        steps = int(self.trainer.estimated_stepping_batches)
        rate = torch.optim.lr_scheduler.OneCycleLR(adam, self.learning_rate, total_steps=steps)
        return {"optimizer": adam, "lr_scheduler": {"scheduler": rate, "interval": "step"}}


def as_words(images: Tensor) -> Tensor:
    """Return 64 words for each image: how dark each place of eight by eight is."""
    dark = F.avg_pool2d(images, 2).clamp(0, 1)
    return (LEVELS * dark).round().long().flatten(1)


def data(images: int, seed: int, *, train: bool, words: bool) -> tuple[Tensor, Tensor]:
    """Return inputs and labels."""
    pixels, labels = digits(images, seed, train=train).dataset[:]
    return as_words(pixels) if words else pixels, labels


def trained(name: str, *, quick: bool) -> dict[str, object]:
    """Return the weights of a net, always the same, and what the ways are given."""
    family, made_of = FAMILIES[name], key(name, quick=quick)
    images, labels = data(QUICK_IMAGES if quick else IMAGES, 0, train=True, words=family.words)
    seen, truth = data(
        QUICK_VALIDATION if quick else VALIDATION, 1, train=False, words=family.words
    )
    seed_everything(1, verbose=False)
    model = LitLearner(family.build(), family.learning_rate)
    loader = DataLoader(TensorDataset(images, labels), BATCH, shuffle=True)
    quiet_trainer(2 if quick else family.epochs).fit(model, loader)
    return {
        "key": made_of,
        "state": model.net.state_dict(),
        "calibration": images[:CALIBRATION],
        "images": seen,
        "labels": truth,
    }


def main() -> None:
    """Train, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("net", choices=FAMILIES)
    parser.add_argument("path", type=Path)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    say_nothing()
    torch.set_num_threads(1)
    beside = asked.path.with_suffix(".part")
    torch.save(trained(asked.net, quick=asked.quick), beside)
    os.replace(beside, asked.path)


if __name__ == "__main__":
    main()
