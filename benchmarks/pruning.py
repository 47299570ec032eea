"""What masks cost while a model trains, and what cut channels save.

A step is all from one batch to the next, in a fit with ``PruningCallback`` and one without, and
with Lightning's ``ModelPruning``; the fits are interleaved and the ratios are medians over the
rounds. Masks are chosen for the whole net at once, from dense to 90 %. The net that was cut is
timed in turn with the dense one.

    make bench
"""

from __future__ import annotations

import argparse
import copy
import functools
import logging
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from time import perf_counter
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelPruning
from qat import Lit
from resnets import resnet18, resnet50, resnext50
from table import interleaved_ms, markdown, repeated
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import BertConfig, BertModel, ViTConfig, ViTModel

from lpot_lightning import PruningCallback
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.conf.schema import PrunerConf
from lpot_lightning.pruning.channels.cost import macs_of, parameters_of
from lpot_lightning.pruning.channels.cut import cut
from lpot_lightning.pruning.channels.finding import find_groups
from lpot_lightning.pruning.channels.group import ChannelGroups
from lpot_lightning.pruning.model_pruner import ModelPruner

Calls = Mapping[str, tuple[tuple[Any, ...], Mapping[str, Any]]]
BOUND, CUT_BOUND, WARM_UP = 1.02, 0.65, 2


def perceptron() -> nn.Module:
    """Return linear layers of 25 million parameters, in which a step is little more than them."""
    width = 2048
    return nn.Sequential(
        *(layer for _ in range(6) for layer in (nn.Linear(width, width), nn.ReLU())),
        nn.Linear(width, 10),
    )


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "ResNet-50, 16 x 128 x 128": (resnet50, (16, 3, 128, 128)),
    "6 linear layers, 256 x 2048": (perceptron, (256, 2048)),
}
SIZES = ((1, 64), (16, 64), (1, 224), (16, 224))


class Clock(pl.Callback):
    """Notes when each batch begins."""

    def __init__(self) -> None:
        self.begun: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.begun.append(perf_counter())

    @property
    def step(self) -> float:
        """The median seconds from one batch to the next."""
        between = [b - a for a, b in zip(self.begun, self.begun[1:], strict=False)]
        return statistics.median(between[WARM_UP:])


def conf(folder: str = "nowhere", **pruner: Any) -> dict[str, Any]:
    """Return a YAML that prunes at once, to 90 % where ``pruner`` says nothing else."""
    weights = {"target_sparsity": 0.9, "end_epoch": 0, "pruners": [pruner]}
    return {
        "model": {"name": "net", "framework": "pytorch_fx"},
        "tuning": {"workspace": {"path": folder}},
        "pruning": {"approach": {"weight_compression": weights}},
    }


def step_seconds(
    net: nn.Module, shape: tuple[int, ...], steps: int, *pruning: pl.Callback
) -> float:
    """Return the seconds of a step of a fit."""
    batch, *rest = shape
    x = torch.randn(batch * (steps + WARM_UP + 1), *rest)
    data = DataLoader(TensorDataset(x, torch.arange(len(x)) % 10), batch_size=batch)
    clock = Clock()
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        limit_val_batches=1, callbacks=[clock, *pruning],
    )  # fmt: skip
    trainer.fit(Lit(net), data, DataLoader(TensorDataset(x[:2], torch.arange(2)), batch_size=2))
    return clock.step


def pruners_of(**pruner: Any) -> tuple[PrunerConf, ...]:
    """Return the pruners of ``conf``."""
    pruning = read_conf(conf(**pruner)).pruning
    assert pruning is not None
    return pruning.approach.weight_compression.resolved()


def step_rows(rounds: int, steps: int, folder: str, batch: int | None = None) -> list[list[object]]:
    """Return, for each net, what a step takes with masks; ``batch`` is another size than its."""
    rows: list[list[object]] = []
    for name, (make, usual) in NETS.items():
        shape = (batch or usual[0], *usual[1:])
        ours: list[float] = []
        theirs: list[float] = []
        plain: list[float] = []
        for _ in range(rounds):
            plain.append(step_seconds(make(), shape, steps))
            callback = PruningCallback(conf(folder), monitor="val_acc", baseline=1.0)
            ours.append(step_seconds(make(), shape, steps, callback))
            peer = ModelPruning("l1_unstructured", amount=0.9, use_lottery_ticket_hypothesis=False)
            theirs.append(step_seconds(make(), shape, steps, peer))
        ratio = _ratio(ours, plain)
        count = sum(one.numel() for one in make().parameters()) / 1e6
        rows.append(
            [
                name,
                f"{count:.1f} M",
                f"{1000 * statistics.median(plain):.0f}",
                f"{ratio:.3f}",
                f"{_ratio(theirs, plain):.3f}",
                f"{'met' if ratio <= BOUND else 'missed'}, {BOUND}",
            ]
        )
    return rows


def _ratio(one: list[float], other: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


WAYS: dict[str, dict[str, Any]] = {
    "each tensor": {},
    "each channel": {"method": "per_channel"},
    "all tensors together": {"prune_domain": "global"},
    "blocks of 4x1": {"pattern": "4x1", "excluded_names": ["net.0.0.weight"]},
    "2:4": {"pattern": "2:4", "excluded_names": ["net.0.0.weight"]},
}


def choice_rows(rounds: int) -> list[list[object]]:
    """Return how long it takes to choose the masks of a ResNet-50."""
    rows: list[list[object]] = []
    lit = Lit(resnet50())
    for name, asked in WAYS.items():

        def ours(pruners: tuple[PrunerConf, ...] = pruners_of(**asked)) -> float:
            one = ModelPruner(Lit(resnet50()), pruners)
            return _seconds(lambda: one.begin_epoch(0))

        rows.append([name, f"{repeated(ours, rounds):.2f}", _theirs(name, lit, rounds)])
    return rows


def _theirs(name: str, lit: Lit, rounds: int) -> str:
    """Return what Lightning's callback takes for the same, where it can do it."""
    if name not in ("each tensor", "all tensors together"):
        return "-"

    def theirs() -> float:
        module = Lit(resnet50())
        peer = ModelPruning(
            "l1_unstructured",
            use_global_unstructured=name == "all tensors together",
            parameter_names=["weight"],
            use_lottery_ticket_hypothesis=False,
        )
        peer._parameters_to_prune = [
            (one, "weight") for one in module.modules() if isinstance(one, nn.Conv2d | nn.Linear)
        ]
        return _seconds(lambda: peer.apply_pruning(0.9))

    return f"{repeated(theirs, rounds):.2f}"


def halved(dense: nn.Module, calls: Calls) -> tuple[nn.Module, float]:
    """Return a net without half of its channels and heads, and the seconds to find them."""
    found: list[ChannelGroups] = []
    seconds = _seconds(lambda: found.append(find_groups(dense, calls)))
    pruner = ModelPruner(
        copy.deepcopy(dense), pruners_of(pattern="channel", target_sparsity=0.5), (), found[0]
    )
    pruner.begin_epoch(0)
    plan = pruner.plan(dense)
    assert plan is not None
    return cut(copy.deepcopy(dense), plan).eval(), seconds


def grouped_and_attending() -> Iterator[tuple[str, nn.Module, dict[str, torch.Tensor]]]:
    """Yield nets with groups and with heads, and an input of each."""
    image = torch.randn(1, 3, 224, 224)
    yield "ResNeXt-50 (32x4d), 224 x 224", resnext50(), {"input": image}
    sizes = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
    yield "ViT-S/16, 224 x 224", ViTModel(ViTConfig(**sizes)), {"pixel_values": image}
    words = torch.randint(0, 1000, (1, 128))
    yield "BERT-base, 128 tokens", BertModel(BertConfig()), {"input_ids": words}


def net_rows(rounds: int) -> list[list[object]]:
    """Return what nets with groups and with heads take without half of them."""
    rows: list[list[object]] = []
    for name, dense, given in grouped_and_attending():
        small, seconds = halved(dense.eval(), {"": ((), given)})
        with torch.no_grad():
            ms = interleaved_ms(
                {"dense": functools.partial(dense, **given),
                 "small": functools.partial(small, **given)},
                rounds,
            )  # fmt: skip
        left = parameters_of(small) / parameters_of(dense)
        ratio = ms["small"] / ms["dense"]
        rows.append(
            [name, f"{left:.2f}", f"{ms['dense']:.0f}", f"{ms['small']:.0f}", f"{ratio:.2f}",
             f"{seconds:.0f}"]
        )  # fmt: skip
    return rows


def cut_rows(rounds: int) -> list[list[object]]:
    """Return what a ResNet-18 takes without half of its channels."""
    dense = resnet18().eval()
    calls: Calls = {"": ((torch.randn(1, 3, 64, 64),), {})}
    small, seconds = halved(dense, calls)
    print(
        f"\nA ResNet-18 without half of its channels, found in {seconds:.1f} s:"
        f" {parameters_of(small) / parameters_of(dense):.2f} of the parameters,"
        f" {macs_of(small, calls) / macs_of(dense, calls):.2f} of the multiply-accumulates\n"
    )
    rows: list[list[object]] = []
    for batch, size in SIZES:
        x = torch.randn(batch, 3, size, size)
        with torch.no_grad():
            ms = interleaved_ms(
                {"dense": functools.partial(dense, x), "small": functools.partial(small, x)},
                rounds,
            )
        ratio = ms["small"] / ms["dense"]
        met = "met" if ratio <= CUT_BOUND else "missed"
        rows.append(
            [f"{batch} x {size} x {size}", f"{ms['dense']:.1f}", f"{ms['small']:.1f}",
             f"{ratio:.2f}", f"{met}, {CUT_BOUND}"]
        )  # fmt: skip
    return rows


def _seconds(call: Callable[[], object]) -> float:
    started = perf_counter()
    call()
    return perf_counter() - started


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round of few steps")
    parser.add_argument("--cut", action="store_true", help="only what cut channels save")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    asked = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    rounds, steps = (1, 2) if asked.quick else (asked.rounds, asked.steps)
    if not asked.cut:
        print_masks(rounds, steps, asked.quick)
    heads = ["images", "dense ms", "without ms", "ratio", "bound"]
    print(markdown(heads, cut_rows(3 if asked.quick else 25)), flush=True)
    print("\nHalf of all channels, groups and heads:\n")
    heads = ["net", "parameters left", "dense ms", "without ms", "ratio", "found in s"]
    print(markdown(heads, net_rows(1 if asked.quick else 15)), flush=True)


def print_masks(rounds: int, steps: int, quick: bool) -> None:
    """Print what masks cost, and how long it takes to choose them."""
    print("\nWhat a training step takes with masks of 90 %, against one without:\n")
    with tempfile.TemporaryDirectory() as folder:
        heads = ["net", "parameters", "ms without", "masks", "Lightning's `ModelPruning`", "bound"]
        rows = step_rows(rounds, steps, folder, 2 if quick else None)
        print(markdown(heads, rows), flush=True)
    print("\nSeconds to choose the masks of a ResNet-50 (25.6 M), from dense to 90 %:\n")
    print(markdown(["ranked", "here", "`ModelPruning`"], choice_rows(rounds)), flush=True)


if __name__ == "__main__":
    main()
