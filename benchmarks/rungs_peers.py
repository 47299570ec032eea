"""What each rung of int8 is worth to transformers and recurrent nets, beside what others make.

It runs in the environment that `make bench-peers` installs. Besides rows that `rungs.py` has there
are those of `torch.ao.quantization.quantize_dynamic` (linear and recurrent layers), torchao's
`Int8DynamicActivationInt8WeightConfig` (linear layers; as it is called, and compiled by
`torch.compile`) and OpenVINO (NNCF's static int8 of the same weights and calibration data, told
what transformers are; latency mode, one stream, float32 where it is not int8). Each of them is
compared with our rung of its kind. Where torch has no fast product of integers, torchao is left out
of nets that it would take seconds for. All run in turns on one thread, in one order and the other.

    make bench-peers
"""

from __future__ import annotations

import copy
import logging
import os
import tempfile
import timeit
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import openvino as ov
import torch
from rungs import (
    COMPILED,
    DYNAMIC,
    FP32,
    NONE,
    OURS,
    STATIC,
    Case,
    Made,
    Way,
    arguments,
    compiled_call,
    measure,
    settled,
    short,
    state_mib,
)
from rungs import HEADS as OUR_HEADS
from rungs import cells as our_cells
from today import begin
from torch import Tensor, nn
from turns import Turns

AO, TORCHAO = "torch.ao dynamic", "torchao dynamic"
TORCHAO_COMPILED, OPENVINO = f"{TORCHAO}, {COMPILED}", "OpenVINO static"
RIVALS = {AO: DYNAMIC, TORCHAO: DYNAMIC, TORCHAO_COMPILED: DYNAMIC, OPENVINO: STATIC}
PATIENCE = 8.0
HEADS = (*OUR_HEADS, "our rung's time / its time")


def ao_dynamic(case: Case) -> Made:
    """Return what torch's old engine makes of linear and recurrent layers."""
    kinds = {nn.Linear, nn.GRU, nn.LSTM}
    net = torch.ao.quantization.quantize_dynamic(case.fp32, kinds, dtype=torch.qint8)
    return Made(net, state_mib(net))


def torchao_dynamic(case: Case) -> Made:
    """Return what torchao makes of linear layers."""
    net = _torchao_net(case)
    return Made(net, state_mib(net))


def torchao_compiled(case: Case) -> Made:
    """Return the same as torch compiles it."""
    net = _torchao_net(case)
    return Made(compiled_call(net), state_mib(net))


def _torchao_net(case: Case) -> nn.Module:
    if not any(isinstance(one, nn.Linear) for one in case.fp32.modules()):
        raise ValueError("it has no linear layers, and torchao leaves the others as they are")
    if (seconds := slower_in_integers() * _seconds(partial(case.fp32, *case.sample))) > PATIENCE:
        raise ValueError(f"a call would take about {seconds:.0f} s, with `torch._int_mm` of here")
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
    from torchao.utils import should_reduce_range

    config = Int8DynamicActivationInt8WeightConfig(
        set_inductor_config=False,  # it would be that of fp32 too
        reduce_range=should_reduce_range(torch.device("cpu")),
    )
    net = copy.deepcopy(case.fp32)
    quantize_(net, config)
    return net


def slower_in_integers() -> float:
    """Return how many times as long a product takes in 8 bits as in floats."""
    one, other = torch.ones(128, 768), torch.ones(768, 768)
    floats = _seconds(partial(torch.mm, one, other))
    return _seconds(partial(torch._int_mm, one.to(torch.int8), other.to(torch.int8))) / floats


def _seconds(call: Callable[[], object]) -> float:
    call()
    return min(timeit.repeat(call, timer=process_time, number=1, repeat=3))


def openvino(case: Case) -> Made:
    """Return what NNCF and OpenVINO make of the net."""
    import nncf

    shapes = [[*one.shape] for one in case.sample]
    model = ov.convert_model(case.fp32, example_input=case.sample, input=shapes)
    quantized = nncf.quantize(
        model,
        nncf.Dataset(_batches(case)),
        model_type=nncf.ModelType.TRANSFORMER if case.kind.transformer else None,
    )
    if "FakeQuantize" not in {one.get_type_name() for one in quantized.get_ops()}:
        raise ValueError("nothing is int8: NNCF leaves the net as it is")
    request = _compiled(quantized).create_infer_request()
    return Made(partial(_answer, request), _saved_mib(quantized))


def _batches(case: Case) -> list[list[Any]]:
    parts = [one.split(case.kind.batch) for one in case.calibration()]
    return [[one.numpy() for one in batch] for batch in zip(*parts, strict=True)]


def _compiled(model: Any) -> Any:
    asked = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    return ov.compile_model(model, "CPU", asked)


def _answer(request: Any, *sample: Tensor) -> Tensor:
    given = [one.numpy() for one in sample]
    found = request.infer(given, share_inputs=True, share_outputs=True)
    return torch.from_numpy(found[0])


def _saved_mib(model: Any) -> float:
    with tempfile.TemporaryDirectory() as folder:
        ov.save_model(model, Path(folder) / "model.xml", compress_to_fp16=False)
        return sum(one.stat().st_size for one in Path(folder).iterdir()) / 2**20


WAYS: dict[str, Way] = {
    **{way: OURS[way] for way in (FP32, STATIC, DYNAMIC)},
    AO: ao_dynamic,
    TORCHAO: torchao_dynamic,
    TORCHAO_COMPILED: torchao_compiled,
    OPENVINO: openvino,
}


def cells(
    net: str, way: str, turns: Turns, made: Mapping[str, Made], errors: Mapping[str, float]
) -> list[str]:
    """Return the row of a way, see there; and our time as a multiple of its."""
    ours = RIVALS.get(way)
    both = {way, ours} <= set(turns.seconds)
    against = str(turns.ratio(ours, way)) if ours is not None and both else NONE
    return [*our_cells(net, way, turns, made, errors), against]


def main() -> None:
    """Make, time, print."""
    os.environ["NNCF_CI"] = "1"  # no telemetry
    import nncf  # after that, and where tests have none
    import torchao

    asked = settled(arguments(__doc__).parse_args())
    nncf.set_log_level(logging.ERROR)
    versions = f"NNCF {nncf.__version__}, OpenVINO {ov.__version__.split('-')[0]}"
    begin(HEADS, f"{versions}, torchao {torchao.__version__}, ")
    measure(asked, short(WAYS, asked), cells)


if __name__ == "__main__":
    main()
