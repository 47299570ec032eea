"""What NNCF's accuracy control makes of the planted net; ``planted.py`` runs it.

It runs in an environment of its own (``make bench-peers``), reads weights and data from a folder,
and prints one line of JSON. A validation pass, its seconds and its accuracy are counted and
measured as they are for us; what NNCF lets one choose is left at its defaults.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from time import monotonic
from typing import Any

os.environ["NNCF_CI"] = "1"  # no telemetry

import nncf
import numpy as np
import openvino as ov
import torch
from openvino_graph import is_quantized
from planted_net import PlantedNet
from table import interleaved_ms, repeated

BATCH = 100
OPS = ("Convolution", "GroupConvolution", "MatMul")
LAYERS = (torch.nn.Conv2d, torch.nn.Linear)


class Judge:
    """NNCF's ``validation_fn``: which of the images that are asked for are recognized."""

    def __init__(self, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
        self.images, self.labels = images, labels
        self.seen = 0
        self.accuracies: list[float] = []

    def __call__(self, model: ov.CompiledModel, chosen: Iterable[int]) -> tuple[float, list[float]]:
        """Return the share that is recognized, and 1 or 0 for each image."""
        which = np.fromiter(chosen, int)
        parts = [which[start : start + BATCH] for start in range(0, len(which), BATCH)]
        found = np.concatenate([model(self.images[part])[0].argmax(1) for part in parts])
        right = (found == self.labels[which]).astype(float)
        self.seen += len(which)
        if len(which) == len(self.images):
            self.accuracies.append(float(right.mean()))
        return float(right.mean()), right.tolist()


def ops_in_fp32(model: ov.Model, net: PlantedNet) -> tuple[list[str], int]:
    """Return the layers whose op has a floating-point input, and how many ops there are."""
    ops = [op for op in model.get_ordered_ops() if op.get_type_name() in OPS]
    layers = [name for name, one in net.named_modules() if isinstance(one, LAYERS)]
    found = zip(layers, ops, strict=True)  # the net is a chain, so both are in its order
    return [name for name, op in found if not all(map(is_quantized, op.input_values()))], len(ops)


def tuned(net: PlantedNet, calibration: torch.Tensor, judge: Judge, goal: float) -> ov.Model:
    """Convert ``net`` and quantize it as far as the relative ``goal`` allows."""
    model = ov.convert_model(net, example_input=calibration, input=[-1, *calibration.shape[1:]])
    return nncf.quantize_with_accuracy_control(
        model,
        nncf.Dataset(list(calibration.numpy()[:, None])),
        nncf.Dataset(range(len(judge.images))),
        judge,
        max_drop=goal,
        drop_type=nncf.DropType.RELATIVE,
    )


def measured(folder: Path, goal: float, rounds: int) -> dict[str, Any]:
    """Return the row of the table."""
    data = torch.load(folder / "planted.pt", weights_only=True)
    net = PlantedNet().eval()
    net.load_state_dict(data["net"])
    images, labels = data["images"].numpy(), data["labels"].numpy()
    made: list[tuple[ov.Model, Judge]] = []

    def once() -> float:
        judge = Judge(images, labels)
        started = monotonic()
        made.append((tuned(net, data["calibration"], judge, goal), judge))
        return monotonic() - started

    seconds = repeated(once, rounds)
    model, judge = made[-1]
    passes = judge.seen / len(images)
    in_fp32, ops = ops_in_fp32(model, net)
    int8 = ov.compile_model(model, "CPU")
    accuracy, _ = judge(int8, range(len(images)))
    fp32_model = ov.convert_model(net, example_input=data["calibration"])
    fp32 = ov.compile_model(fp32_model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    batch = images[:BATCH]
    ms = interleaved_ms({"fp32": lambda: fp32(batch), "int8": lambda: int8(batch)})
    baseline = judge.accuracies[0]
    return {
        "way": f"NNCF {nncf.__version__}, OpenVINO {ov.__version__.split('-')[0]}",
        "passes": passes,
        "seconds": seconds,
        "fp32_ops": in_fp32,
        "ops": ops,
        "baseline": baseline,
        "accuracy": accuracy,
        "fp32_ms": ms["fp32"],
        "int8_ms": ms["int8"],
        "status": "met" if accuracy >= baseline * (1 - goal) else "not_met",
    }


def main() -> None:
    """Read, tune, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="what `planted.py` wrote")
    parser.add_argument("--goal", type=float, default=0.01)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    nncf.set_log_level(logging.ERROR)
    print(json.dumps(measured(asked.folder, asked.goal, asked.rounds)))


if __name__ == "__main__":
    main()
