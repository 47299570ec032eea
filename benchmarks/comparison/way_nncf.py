"""NNCF with accuracy control, in OpenVINO.

What NNCF lets one choose is left at its defaults, but that it is told of a transformer.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from time import monotonic

os.environ["NNCF_CI"] = "1"  # no telemetry

import nncf
import numpy as np
import openvino as ov
from making import OV, Form, Made, Task, mib
from openvino_graph import layers_in_int8
from torch import Tensor
from way_ours import OPENVINO, opened

BATCH = 100


class Recognized:
    """NNCF's ``validation_fn``: which of the images that are asked for are recognized."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images.numpy(), labels.numpy()

    def __call__(self, model: ov.CompiledModel, chosen: Iterable[int]) -> tuple[float, list[float]]:
        """Return the share that is recognized, and 1 or 0 for each image."""
        which = np.fromiter(chosen, int)
        parts = [which[start : start + BATCH] for start in range(0, len(which), BATCH)]
        found = np.concatenate([model(self.images[part])[0].argmax(1) for part in parts])
        right = (found == self.labels[which]).astype(float)
        return float(right.mean()), right.tolist()


def make(task: Task) -> Made:
    """Convert, quantize as far as the goal allows, save."""
    nncf.set_log_level(logging.ERROR)
    began = monotonic()
    model = ov.convert_model(
        task.net, example_input=task.calibration[:8], input=[-1, *task.calibration.shape[1:]]
    )
    fp32 = saved(model, task.folder / "fp32.xml")  # which NNCF does not change
    path = saved(tuned(model, task), task.folder / "int8.xml")
    form = Form(
        runtime=OV,
        call=opened(path, OPENVINO),
        seconds=monotonic() - began,
        judged=True,
        lost=task.layers - layers_in_int8(ov.Core().read_model(path)),
        mib=mib(path),
    )
    versions = {"NNCF": nncf.__version__, "OpenVINO": ov.__version__.split("-")[0]}
    return Made(forms=(form,), floats={OV: opened(fp32, OPENVINO)}, versions=versions)


def tuned(model: ov.Model, task: Task) -> ov.Model:
    """Quantize ``model`` until the goal is met."""
    return nncf.quantize_with_accuracy_control(
        model,
        nncf.Dataset(list(task.calibration.numpy()[:, None])),
        nncf.Dataset(range(len(task.images))),
        Recognized(task.images, task.labels),
        max_drop=task.goal,
        drop_type=nncf.DropType.RELATIVE,
        model_type=nncf.ModelType.TRANSFORMER if task.family.transformer else None,
    )


def saved(model: ov.Model, path: Path) -> Path:
    """Write a model, its floats in 32 bits."""
    ov.save_model(model, path, compress_to_fp16=False)
    return path
