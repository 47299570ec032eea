"""lpot_lightning: `quantize`, then the same model in torch and exported to other runtimes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any

import torch
from classifier import BATCH, LitClassifier, quiet_trainer, say_nothing
from making import ORT, OV, TORCH, Call, Form, Made, Task, mib, state_mib
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lpot_lightning import TuningResult, quantize
from lpot_lightning.deploy.options import ONNXRUNTIME, OPENVINO
from lpot_lightning.deploy.running.runtimes import open_file
from lpot_lightning.errors import LpotError
from lpot_lightning.version import VERSION

RUNTIMES = {ORT: ONNXRUNTIME, OV: OPENVINO}
IN_INT8 = ("int8", "dynamic int8")


def make(task: Task) -> Made:
    """Quantize, and export to each runtime."""
    say_nothing()
    began = monotonic()
    result = tuned(task)
    form = Form(
        runtime=TORCH,
        call=result.model.net,
        seconds=monotonic() - began,
        judged=True,
        lost=task.layers - in_int8(result),
        mib=state_mib(task.net) / result.size_ratio,
    )
    forms, failures = [form], {}
    for runtime in RUNTIMES:
        try:
            forms.append(exported(task, result, form, runtime))
        except LpotError as error:
            failures[runtime] = str(error)
    return Made(forms=tuple(forms), versions=versions(), failures=failures)


def tuned(task: Task) -> TuningResult:
    """Quantize as a user does who has loaders."""
    loaders = [
        DataLoader(TensorDataset(images, labels), batch_size=BATCH)
        for images, labels in (
            (task.calibration, torch.zeros(len(task.calibration), dtype=torch.long)),
            (task.images, task.labels),
        )
    ]
    conf: dict[str, Any] = {
        "model": {"name": "net", "framework": "pytorch_fx"},
        "tuning": {
            "accuracy_criterion": {"relative": task.goal},
            "workspace": {"path": str(task.folder)},
        },
    }
    return quantize(quiet_trainer(), LitClassifier(task.net), *loaders, conf=conf)


def in_int8(result: TuningResult) -> int:
    """Return how many layers compute in int8; each one of a recurrent module."""
    modules = dict(result.model.named_modules())
    found = [modules[op] for op, rung in result.rungs.items() if rung in IN_INT8 and op in modules]
    return sum(getattr(one, "num_layers", 1) for one in found if not hasattr(one, "embedding_dim"))


def exported(task: Task, result: TuningResult, form: Form, runtime: str) -> Form:
    """Return the model in another runtime."""
    began, path = monotonic(), task.folder / f"{RUNTIMES[runtime]}.onnx"
    result.export(path, target=RUNTIMES[runtime])
    call = opened(path, RUNTIMES[runtime])
    seconds = form.seconds + monotonic() - began
    return replace(form, runtime=runtime, call=call, seconds=seconds, judged=False, mib=mib(path))


def opened(path: Any, runtime: str) -> Call:
    """Return what runs a file on one thread."""
    return partial(_first, open_file(path, threads=1, runtime=runtime))


def _first(run: Any, images: Tensor) -> Tensor:
    logits: Tensor = run(images)[0]
    return logits


def versions() -> dict[str, str]:
    """Return those of torch and of ours."""
    return {"lpot_lightning": VERSION, "torch": torch.__version__}
