"""Intel Neural Compressor 3: `autotune` over its own set of int8 settings, then `torch.compile`.

It tries settings for the whole net, one after the other, until the goal is met; no layer is left
out. What it gives simulates int8, and it advises to compile that.
"""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from time import monotonic
from typing import Any

import torch
from making import INDUCTOR, Form, Made, Task
from neural_compressor.torch.export import export as inc_export
from neural_compressor.torch.quantization import INT8StaticQuantConfig, TuningConfig, autotune
from pt2e import BATCH, calibrate, compiled, graph_mib, layers_in_int8, warm_up


def make(task: Task) -> Made:
    """Export, tune, compile."""
    warm_up()
    began = monotonic()
    int8 = tuned(task)
    lost, size = task.layers - layers_in_int8(int8.graph), graph_mib(int8)
    call = compiled(int8)
    call(task.images[:BATCH])
    form = Form(
        runtime=INDUCTOR,
        call=call,
        seconds=monotonic() - began,
        lost=lost,
        mib=size,
        batch=BATCH,
    )
    versions = {"Neural Compressor": version("neural-compressor"), "torch": torch.__version__}
    return Made(forms=(form,), versions=versions)


def tuned(task: Task) -> Any:
    """Return the graph of the first setting that meets the goal, else of the best."""
    sample, batch = task.calibration[:BATCH], torch.export.Dim("batch", min=1, max=1024)
    settings = INT8StaticQuantConfig.get_config_set_for_tuning()
    tuning = TuningConfig(
        config_set=[settings], tolerable_loss=task.goal, max_trials=len(settings.expand())
    )
    return autotune(
        inc_export(task.net, (sample,), dynamic_shapes=({0: batch},)),
        tuning,
        eval_fn=task.accuracy,
        run_fn=partial(calibrate, images=task.calibration),
        example_inputs=(sample,),
    )
