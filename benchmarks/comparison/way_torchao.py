"""torchao's PT2E for x86, compiled by `torch.compile`; it knows no goal."""

from __future__ import annotations

from time import monotonic

import torch
import torchao
import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as x86
from making import INDUCTOR, Form, Made, Task
from pt2e import BATCH, calibrate, compiled, exported, graph_mib, layers_in_int8, warm_up
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e


def make(task: Task) -> Made:
    """Export, calibrate, convert, compile."""
    warm_up()
    began = monotonic()
    int8 = converted(task)
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
    versions = {"torchao": torchao.__version__, "torch": torch.__version__}
    return Made(forms=(form,), floats={INDUCTOR: compiled(task.net)}, versions=versions)


def converted(task: Task) -> torch.fx.GraphModule:
    """Return the graph with its weights in 8 bits."""
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(exported(task), quantizer)
    calibrate(prepared, task.calibration)
    return convert_pt2e(prepared)
