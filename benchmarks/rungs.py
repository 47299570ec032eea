"""What each rung of int8 is worth to transformers and recurrent nets: time, size and error.

A rung is how an op is int8: static (its inputs are rounded as calibration data have told), dynamic
(each row of its inputs as it comes) or by its weight only (it computes in fp32). Each net has
random weights, and is made by `quantize` for each rung as a user does whose loaders have the batch
that is timed. fp32 is torch's own, called as it is and compiled by `torch.compile`. All run in
turns on one thread, in one order and the other; milliseconds are the median and the least of the
rounds, a speed-up is the median with the quarters around it. The size is that of the state. The
error is that of the answer to new data, relative to fp32's. What is far slower than fp32 is timed
once. What cannot be made has dashes, and why is told on the error stream.

    make bench
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

import torch
from attentive_nets import NETS, Called, Sample
from classifier import quiet_trainer
from today import Judged, begin, clock_of, error, show
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from turns import Turns, in_turns

from lpot_lightning import TuningResult, quantize

ROUNDS, SECONDS, QUICK_ROUNDS = 21, 4.0, 5
QUICK = ("GPT-2, 4 layers, 1 token behind 128", "GRU of 256, 1 x 100")
FP32, COMPILED = "fp32", "compiled"
STATIC, DYNAMIC, WEIGHT_ONLY = "static int8", "dynamic int8", "weight-only int8"
CONFS: dict[str, dict[str, Any]] = {
    STATIC: {"approach": "post_training_static_quant"},
    DYNAMIC: {"approach": "post_training_dynamic_quant"},
    WEIGHT_ONLY: {
        "op_wise": {
            ".*": {
                "activation": {"dtype": "fp32"},
                "weight": {"dtype": "int8", "granularity": "per_channel"},
            }
        }
    },
}
IN_BF16: dict[str, dict[str, Any]] = {
    "static int8, the rest fp32": {"float": "fp32"},
    "static int8, the rest bf16": {"float": "bf16"},
    "bf16": {
        "float": "bf16",
        "model_wise": {
            "activation": {"dtype": ["bf16", "fp32"]},
            "weight": {"dtype": ["bf16", "fp32"]},
        },
    },
}
"""What is asked for by `--bf16`; the ways above leave `float` to be found out."""
SMALLER = 1.05
"""A state that is not so many times smaller has nothing in int8."""
SLOW = 8
"""What takes so many times as long as fp32 is not waited for in turns."""
NONE = "-"


def answer_of(given: Tensor | Sequence[Tensor]) -> Tensor:
    """Return what is compared: of several answers the first, as the rest are caches."""
    return given if isinstance(given, Tensor) else given[0]


class Case:
    """A net as it is called.

    Args:
        name: of the net.
        kind: see there.
    """

    def __init__(self, name: str, kind: Called) -> None:
        self.name, self.kind = name, kind
        self.fp32, self.sample = kind.made(), kind.data(3)

    def calibration(self) -> Sample:
        """Return samples that nothing is timed with."""
        return self.kind.data(1, max(self.kind.samples, self.kind.batch))

    def loader(self, samples: Sample) -> DataLoader[tuple[Tensor, ...]]:
        """Return what a user has."""
        return DataLoader(TensorDataset(*samples), batch_size=self.kind.batch)


@dataclass(frozen=True)
class Made:
    """What a way makes of a net.

    Args:
        call: computes.
        mib: of the state.
        ops: how many are int8 and how many stay in fp32, where somebody knows.
        seconds: of its second call.
    """

    call: Callable[..., Any]
    mib: float
    ops: str = NONE
    seconds: float = 0.0


Way = Callable[[Case], Made]


def state_mib(net: nn.Module) -> float:
    """Return how large the state is when it is saved."""
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    return file.tell() / 2**20


def fp32(case: Case) -> Made:
    """Return the net as it is."""
    return Made(case.fp32, state_mib(case.fp32))


def compiled(case: Case) -> Made:
    """Return the net as torch compiles it; it needs a compiler of C++."""
    return Made(compiled_call(case.fp32), state_mib(case.fp32))


def compiled_call(net: nn.Module) -> Callable[..., Any]:
    """Return what `torch.compile` makes of a net, for inputs of one size."""
    made: Callable[..., Any] = torch.compile(net, dynamic=False)
    return made


def on_rung(rung: str, case: Case) -> Made:
    """Return what `quantize` makes of the net.

    Raises:
        LpotError: whatever it says.
        ValueError: if nothing is int8.
    """
    result = quantized(case, (CONFS | IN_BF16)[rung])
    if result.size_ratio < SMALLER:
        raise ValueError(f"nothing is int8: {dict(result.not_quantizable)}")
    net = result.model.net
    assert isinstance(net, nn.Module)
    ops = f"{len(result.int8_ops)} / {len(result.fp32_ops)}"
    return Made(net, state_mib(case.fp32) / result.size_ratio, ops)


def quantized(case: Case, asked: Mapping[str, Any]) -> TuningResult:
    """Quantize the net as ``quantization`` of a conf asks for."""
    samples = case.calibration()
    with tempfile.TemporaryDirectory() as folder:
        conf = {
            "model": {"name": "net", "framework": "pytorch_fx"},
            "quantization": {"calibration": {"sampling_size": len(samples[0])}, **asked},
            "tuning": {
                "accuracy_criterion": {"relative": 0.99},
                "exit_policy": {"performance_only": True},
                "workspace": {"path": folder},
            },
        }
        train, val = case.loader(samples), case.loader(case.kind.data(2))
        return quantize(quiet_trainer(), Judged(case.fp32), train, val, conf=conf)


OURS: dict[str, Way] = {
    FP32: fp32,
    f"{FP32}, {COMPILED}": compiled,
    **{rung: partial(on_rung, rung) for rung in CONFS},
}


def made(case: Case, ways: Mapping[str, Way]) -> dict[str, Made]:
    """Make what can be made and called; what cannot is told on the error stream."""
    torch.compiler.reset()  # nets of one class share what was compiled, up to a limit
    found = {}
    for name, way in ways.items():
        try:
            with redirect_stdout(sys.stderr):  # progress is no part of the table
                found[name] = called(way(case), case.sample)
        except Exception as failure:  # whatever a quantizer or a compiler says
            said = " ".join(f"{type(failure).__name__}: {failure}".split())
            print(f"{case.name}: {name}: not made: {said:.300}", file=sys.stderr)
    return found


def called(one: Made, sample: Sample) -> Made:
    """Call what was made, as it may compile, and once more, to see how long that takes."""
    one.call(*sample)
    began = perf_counter()
    one.call(*sample)
    return replace(one, seconds=perf_counter() - began)


HEADS = (
    "net",
    "way",
    "ms (least)",
    "MiB",
    "relative error",
    "fp32 time / its time",
    "ops int8 / fp32",
)


def cells(
    net: str, way: str, turns: Turns, made: Mapping[str, Made], errors: Mapping[str, float]
) -> list[str]:
    """Return the row of a way.

    Args:
        net: its name.
        way: one of those asked for.
        turns: of all ways that could be made.
        made: these, by name.
        errors: of their answers.
    """
    if way not in made:
        return [net, way, *[NONE] * 5]
    ms, speedup = times(way, turns, made[way])
    one = made[way]
    return [net, way, ms, f"{one.mib:.1f}", f"{errors[way]:.4f}", speedup, one.ops]


def times(way: str, turns: Turns, one: Made) -> tuple[str, str]:
    """Return a way's milliseconds and how much faster than fp32 it is."""
    if way not in turns.seconds:
        ms = 1000 * one.seconds
        return f"{ms:.0f} (once)", f"{turns.ms(FP32) / ms:.2f} (once)"
    told = f"{turns.ms(way):.2f} ({turns.least(way):.2f})"
    return told, NONE if way == FP32 else str(turns.ratio(FP32, way))


def timed(case: Case, made: Mapping[str, Made], asked: argparse.Namespace) -> Turns:
    """Time in turns what was made, unless it is much slower than fp32."""
    slow = SLOW * made[FP32].seconds
    calls = {
        name: partial(one.call, *case.sample) for name, one in made.items() if one.seconds <= slow
    }
    return in_turns(calls, asked.rounds, SECONDS, clock_of(asked))


def errors_of(case: Case, made: Mapping[str, Made]) -> dict[str, float]:
    """Return how far each answer is from fp32's."""
    wanted = answer_of(case.fp32(*case.sample))
    return {name: error(answer_of(one.call(*case.sample)), wanted) for name, one in made.items()}


def arguments(about: str) -> argparse.ArgumentParser:
    """Return a parser of what can be asked for."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--net", nargs="+", choices=NETS, metavar="NET", help="; ".join(NETS))
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"at most, within {SECONDS} s")
    parser.add_argument("--cpu-time", action="store_true", help="of this process")
    parser.add_argument(
        "--quick", action="store_true", help=f"{'; '.join(QUICK)}: few rounds, nothing compiled"
    )
    return parser


def settled(asked: argparse.Namespace) -> argparse.Namespace:
    """Fill in what is measured where nothing was named."""
    if asked.quick:
        asked.rounds = min(asked.rounds, QUICK_ROUNDS)
    asked.net = asked.net or list(QUICK if asked.quick else NETS)
    return asked


def measure(
    asked: argparse.Namespace, ways: Mapping[str, Way], row: Callable[..., Sequence[str]]
) -> None:
    """Make each net in all ways, time them, and print a row for each.

    Args:
        asked: see ``arguments``.
        ways: by name, fp32's first.
        row: as ``cells``.
    """
    torch.set_num_threads(1)
    with torch.no_grad():
        for name in asked.net:
            case = Case(name, NETS[name])
            found = made(case, ways)
            turns, errors = timed(case, found, asked), errors_of(case, found)
            for way in ways:
                show(row(name, way, turns, found, errors))


def bf16_ways() -> dict[str, Way]:
    """Return fp32, and what a CPU that computes in bfloat16 is asked for."""
    return {FP32: fp32, **{name: partial(on_rung, name) for name in IN_BF16}}


def short(ways: Mapping[str, Way], asked: argparse.Namespace) -> dict[str, Way]:
    """Return the ways that are measured: a quick run waits for no compiler."""
    return {name: way for name, way in ways.items() if not (asked.quick and COMPILED in name)}


def main() -> None:
    """Make, time, print."""
    parser = arguments(__doc__)
    parser.add_argument("--bf16", action="store_true", help="the ways of bfloat16 alone")
    asked = settled(parser.parse_args())
    begin(HEADS)
    measure(asked, bf16_ways() if asked.bf16 else short(OURS, asked), cells)


if __name__ == "__main__":
    main()
