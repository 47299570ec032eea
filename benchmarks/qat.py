"""What a training step costs with the rounding of int8.

The same net, data, loss and optimizer: a fit with ``QATCallback``, a fit without us, and a loop by
hand in fp32; with ``--peer`` also a loop by hand over torch's own model for quantization-aware
training, from ``prepare_qat_fx``, while torch has that. A step is all from one batch to the next.
While they learn, ranges and BatchNorm statistics change with each batch; then both are frozen. The
runs are interleaved: each round has one of each, and the ratios are medians over the rounds.

    make bench
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from nets import mobile
from table import markdown
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lpot_lightning import QATCallback

WARM_UP = 3
MOST = {
    ("ResNet-like", 0): 1.50,
    ("ResNet-like", 1): 1.27,
    ("MobileNetV3-like", 0): 2.18,
    ("MobileNetV3-like", 1): 1.77,
    ("linear layers", 0): 1.78,
    ("linear layers", 1): 1.79,
}
"""Callback over fp32 fit: what torch's graph mode came to; more than 1.05 of it is a step back."""
Periods = tuple[list[float], list[float]]
"""Seconds of the steps while they learn, and with all frozen."""


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, taken: int, given: int, stride: int) -> None:
        super().__init__()
        self.one, self.two = _conv(taken, given, 3, stride), _conv(given, given, 3, 1)
        same = taken == given and stride == 1
        self.around = nn.Identity() if same else _conv(taken, given, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.two(F.relu(self.one(x))) + self.around(x))


def _conv(taken: int, given: int, size: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(taken, given, size, stride, size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(given))


def residual() -> nn.Module:
    """Return a ResNet of eight convolutions and a head, for pictures of 32 x 32."""
    return nn.Sequential(
        _conv(3, 32, 3, 1), nn.ReLU(), Block(32, 32, 1), Block(32, 64, 2), Block(64, 128, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


def perceptron() -> nn.Module:
    """Return linear layers with norms between them."""
    return nn.Sequential(
        nn.Linear(512, 1024), nn.LayerNorm(1024), nn.ReLU(), nn.Linear(1024, 1024),
        nn.LayerNorm(1024), nn.ReLU(), nn.Linear(1024, 10),
    )  # fmt: skip


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "ResNet-like": (residual, (16, 3, 32, 32)),
    "MobileNetV3-like": (mobile, (64, 1, 16, 16)),
    "linear layers": (perceptron, (128, 512)),
}


def loader(shape: tuple[int, ...], steps: int) -> DataLoader[Any]:
    """Return ``steps`` batches of noise."""
    batch, *rest = shape
    x = torch.randn(batch * steps, *rest)
    return DataLoader(TensorDataset(x, torch.arange(len(x)) % 10), batch_size=batch)


def optimizer(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)


class Lit(pl.LightningModule):
    """A net, trained and judged."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return optimizer(self.net)


class Clock(pl.Callback):
    """Notes when each batch begins."""

    def __init__(self) -> None:
        self.begun: tuple[list[float], list[float]] = [], []

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.begun[trainer.current_epoch].append(perf_counter())

    @property
    def periods(self) -> Periods:
        learning, frozen = map(_between, self.begun)
        return learning, frozen


def _between(begun: list[float]) -> list[float]:
    return [after - before for before, after in zip(begun, begun[1:], strict=False)][WARM_UP:]


def fit(net: nn.Module, data: DataLoader[Any], callbacks: list[pl.Callback]) -> Periods:
    """Fit two epochs and return how long their steps took."""
    clock = Clock()
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        limit_val_batches=1, callbacks=[clock, *callbacks],
    )  # fmt: skip
    trainer.fit(Lit(net), data, data)
    return clock.periods


def with_callback(net: nn.Module, data: DataLoader[Any]) -> Periods:
    with tempfile.TemporaryDirectory() as folder:
        conf = {
            "model": {"name": "net", "framework": "pytorch_fx"},
            "quantization": {"approach": "quant_aware_training"},
            "tuning": {
                "accuracy_criterion": {"absolute": 1.0},
                "workspace": {"path": folder},
            },
        }
        qat = QATCallback(conf, baseline=0.5, freeze_batch_norm=1, freeze_observers=1)
        return fit(net, data, [qat])


def by_hand(net: nn.Module, data: DataLoader[Any], freeze: Callable[[], object]) -> Periods:
    steps, found = optimizer(net), []
    net.train()
    for epoch in range(2):
        begun = []
        for x, y in data:
            begun.append(perf_counter())
            steps.zero_grad()
            F.cross_entropy(net(x), y).backward()
            steps.step()
        found.append(_between(begun))
        if epoch == 0:
            freeze()
    return found[0], found[1]


def with_torch(net: nn.Module, data: DataLoader[Any]) -> Periods:
    from torch.ao.quantization import disable_observer, get_default_qat_qconfig_mapping
    from torch.ao.quantization.quantize_fx import prepare_qat_fx
    from torch.nn.intrinsic.qat import freeze_bn_stats

    (x, _), *_ = data
    prepared = prepare_qat_fx(net.train(), get_default_qat_qconfig_mapping("x86"), (x,))
    return by_hand(prepared, data, lambda: prepared.apply(disable_observer).apply(freeze_bn_stats))


WAYS: dict[str, Callable[[nn.Module, DataLoader[Any]], Periods]] = {
    "QATCallback": with_callback,
    "fp32 fit": lambda net, data: fit(net, data, []),
    "fp32, by hand": lambda net, data: by_hand(net, data, lambda: None),
}
PEER = "torch's, by hand"


def cells(name: str, rounds: list[dict[str, Periods]], phase: int) -> list[str]:
    """Return a row of the table: milliseconds a step, and medians of the ratios of the rounds."""
    ms = [
        {way: 1000 * statistics.median(found[phase]) for way, found in one.items()}
        for one in rounds
    ]
    ours, fp32, plain = WAYS
    ratio = statistics.median(one[ours] / one[fp32] for one in ms)
    most = MOST.get((name, phase), 1.0) * 1.05
    return [
        name,
        ("learning", "frozen")[phase],
        *(f"{statistics.median(one[way] for one in ms):.1f}" for way in ms[0]),
        f"{ratio:.2f}",
        f"{'met' if ratio <= most else 'missed'}, {most:.2f}",
        f"{statistics.median(one[fp32] / one[plain] for one in ms):.2f}",
    ]


def heads(ways: Iterable[str]) -> list[str]:
    times = [f"{way}, ms a step" for way in ways]
    return ["net", "phase", *times, "callback / fp32 fit", "bound", "fp32 fit / by hand"]


def main() -> None:
    """Train each way in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", action="store_true", help="torch's own beside it")
    parser.add_argument("--quick", action="store_true", help="8 steps, one round")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}").setLevel(logging.WARNING)
    if asked.quick:
        asked.steps, asked.rounds = 8, 1
    ways = WAYS | ({PEER: with_torch} if asked.peer else {})
    rows = []
    for name, (make, shape) in NETS.items():
        data, rounds = loader(shape, asked.steps), []
        for _ in range(asked.rounds):
            pl.seed_everything(1, verbose=False)
            rounds.append({way: run(make(), data) for way, run in ways.items()})
        rows += [cells(name, rounds, phase) for phase in (0, 1)]
    print(f"{asked.rounds} rounds of {asked.steps} steps, {torch.get_num_threads()} threads")
    print(markdown(heads(ways), rows))


if __name__ == "__main__":
    main()
