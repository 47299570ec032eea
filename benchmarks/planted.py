"""How fast a strategy finds the ops that do not survive int8, on a net where they are known.

A MobileNet-like net (22 convolutions, 1 linear) is trained on augmented handwritten digits. In two
of its blocks the channels between two layers are rescaled over several orders of magnitude, which
changes nothing in floating point and ruins one scale for all channels: the two layers around each
such place are fragile, four in all, and no other.

    make bench
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import warnings
from collections.abc import Iterator
from time import monotonic

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from lpot_lightning import TuningResult, quantize

CHANNELS, EXPANSION, BLOCKS, FRAGILE = 24, 4, 7, (2, 5)
BATCH, IMAGES = 100, 6000


class Block(nn.Module):
    """Expand, filter each channel, project."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        wide = CHANNELS * EXPANSION
        self.expand = nn.Conv2d(CHANNELS, wide, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(wide)
        self.depthwise = nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False)
        self.norm2 = nn.BatchNorm2d(wide)
        self.project = nn.Conv2d(wide, CHANNELS, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features."""
        x = F.relu(self.norm1(self.expand(x)))
        x = F.relu(self.norm2(self.depthwise(x)))
        return F.relu(self.norm3(self.project(x)))

    @torch.no_grad()
    def make_fragile(self, generator: torch.Generator) -> None:
        """Rescale the channels between ``depthwise`` and ``project``; the function stays."""
        exponents = torch.rand(self.norm2.num_features, generator=generator) * 6 - 3
        scale = 10**exponents
        self.norm2.weight *= scale
        self.norm2.bias *= scale
        self.project.weight /= scale[None, :, None, None]


class LitNet(LightningModule):
    """The net, its loss and its accuracy."""

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Sequential(
            nn.Conv2d(1, CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS), nn.ReLU()
        )
        blocks = [Block(2 if number in (1, 4) else 1) for number in range(BLOCKS)]
        pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 10)]
        self.net = nn.Sequential(stem, *blocks, *pool)
        self.accuracy = MulticlassAccuracy(10, average="micro")

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Return the loss."""
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor]) -> None:
        """Log the accuracy."""
        self.accuracy(self.net(batch[0]), batch[1])
        self.log("val_acc", self.accuracy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.Adam(self.parameters(), lr=3e-3)

    def plant(self) -> list[str]:
        """Make two blocks fragile and return the ops that int8 now ruins."""
        generator = torch.Generator().manual_seed(3)
        for number in FRAGILE:
            self.net[number].make_fragile(generator)
        return [f"net.{n}.{layer}" for n in FRAGILE for layer in ("depthwise", "project")]


def digits(images: int, seed: int, *, train: bool) -> DataLoader[tuple[Tensor, ...]]:
    """Return handwritten digits, enlarged, shifted and noisy."""
    x, y = load_digits(return_X_y=True)
    half = slice(None, 1200) if train else slice(1200, None)
    pixels = torch.tensor(x[half], dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    labels = torch.tensor(y[half])
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(pixels), (images,), generator=generator)
    large = F.interpolate(pixels[chosen], size=(14, 14), mode="bilinear")
    shifts = torch.randint(0, 3, (images, 2), generator=generator).tolist()
    moved = [F.pad(im, (a, 2 - a, b, 2 - b)) for im, (a, b) in zip(large, shifts, strict=True)]
    noisy = torch.stack(moved)
    noisy += 0.1 * torch.randn(noisy.shape, generator=generator)
    return DataLoader(TensorDataset(noisy, labels[chosen]), batch_size=BATCH, shuffle=train)


def run(model: LitNet, data: tuple[DataLoader[tuple[Tensor, ...]], ...], strategy: str) -> Row:
    """Tune ``model`` with one strategy and return its row of the table."""
    conf = {
        "model": {"name": "planted", "framework": "pytorch_fx"},
        "tuning": {
            "strategy": {"name": strategy},
            "accuracy_criterion": {"relative": 0.01},
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        conf["tuning"]["workspace"] = {"path": folder}
        trainer = quiet_trainer()
        started = monotonic()
        result = quantize(trainer, model, *data, conf=conf)
        return strategy, monotonic() - started, result


Row = tuple[str, float, TuningResult]


def quiet_trainer(epochs: int = 1) -> Trainer:
    """Return a trainer that shows nothing."""
    return Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def lines(rows: list[Row], planted: list[str]) -> Iterator[str]:
    """Yield the table as Markdown."""
    yield "| strategy | validation passes | seconds, all in | ops in fp32 | of them planted |"
    yield "|---|---|---|---|---|"
    for strategy, seconds, result in rows:
        hit = len(set(result.fp32_ops) & set(planted))
        yield (
            f"| {strategy} | {result.evaluations:.1f} | {seconds:.1f}"
            f" | {len(result.fp32_ops)} of {len(result.fp32_ops) + len(result.int8_ops)}"
            f" | {hit} of {len(planted)} |"
        )
    yield ""
    yield "| strategy | status | fp32 accuracy | int8 accuracy | fp32 time / int8 time | size |"
    yield "|---|---|---|---|---|---|"
    for strategy, _, result in rows:
        yield (
            f"| {strategy} | {result.status} | {result.baseline:.4f} | {result.accuracy:.4f}"
            f" | {result.speedup:.2f}x | {result.size_ratio:.2f}x |"
        )


def main() -> None:
    """Train, plant, tune with each strategy, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strategies", nargs="+", default=["auto", "basic", "mse"])
    parser.add_argument("--epochs", type=int, default=4)
    asked = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.simplefilter("ignore")
    seed_everything(1, verbose=False)
    data = digits(IMAGES, 0, train=True), digits(IMAGES, 1, train=False)
    model = LitNet()
    quiet_trainer(asked.epochs).fit(model, data[0])
    planted = model.plant()
    print(
        f"{IMAGES} validation images, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(f"planted: {', '.join(planted)}\n")
    rows = [run(model, data, strategy) for strategy in asked.strategies]
    print("\n".join(lines(rows, planted)))


if __name__ == "__main__":
    main()
