"""How fast int8 is on nets of today, beside OpenVINO's of the same weights and calibration data.

It runs in the environment that `make bench-peers` installs, where both are. NNCF quantizes what
OpenVINO makes of the net, of a fixed batch, with its own settings; of transformers it is told what
they are. OpenVINO computes in its latency mode, with one stream and as many threads as torch, and
in float32 where it is not int8. All run in turns, in one order and the other. The errors are those
of answers to new data, relative to torch's fp32.

    make bench-peers
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

os.environ["NNCF_CI"] = "1"  # no telemetry

import nncf
import openvino as ov
import torch
from today import CALIBRATION, SECONDS, Case, arguments, begin, cases, clock_of, settled, show
from today import error as relative_error
from turns import Turns, in_turns

HEADS = [
    "net",
    "batch",
    "threads",
    "fp32, ms",
    "int8, ms",
    "OpenVINO int8, ms",
    "fp32 time / int8 time",
    "of OpenVINO",
    "int8 time / OpenVINO's",
    "relative error",
    "of OpenVINO",
]


class Peer:
    """What NNCF and OpenVINO make of a case."""

    def __init__(self, case: Case) -> None:
        self.case = case
        kind, batch = case.kind, case.batch
        samples = kind.data(max(CALIBRATION, batch), 1)  # ours
        batches = [one.numpy() for one in samples.split(batch)]
        model = ov.convert_model(case.fp32, example_input=case.sample, input=[*case.sample.shape])
        self.model = nncf.quantize(
            model,
            nncf.Dataset(batches),
            subset_size=len(batches),
            model_type=nncf.ModelType.TRANSFORMER if kind.transformer else None,
        )

    def compiled(self, threads: int) -> Callable[[], Any]:
        """Return what answers the case's sample with so many threads."""
        asked = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        request = ov.compile_model(self.model, "CPU", asked).create_infer_request()
        sample = self.case.sample.numpy()
        return lambda: request.infer([sample], share_inputs=True, share_outputs=True)

    def error(self) -> float:
        """Return how far its answers are from fp32's."""
        found = self.compiled(1)()
        answer = [torch.from_numpy(found[number].copy()) for number in range(len(found))]
        return relative_error(answer, self.case.fp32(self.case.sample))


def cells(case: tuple[str, int, int], turns: Turns) -> list[str]:
    """Return what a row says of the times of ``fp32``, ``int8`` and ``openvino``."""
    return [
        *map(str, case),
        *(f"{turns.ms(name):.2f}" for name in ("fp32", "int8", "openvino")),
        str(turns.ratio("fp32", "int8")),
        str(turns.ratio("fp32", "openvino")),
        str(turns.ratio("int8", "openvino")),
    ]


def row(case: Case, peer: Peer, threads: int, asked: argparse.Namespace) -> list[str]:
    """Time a case with so many threads, and return its row."""
    torch.set_num_threads(threads)
    calls = {**case.calls(), "openvino": peer.compiled(threads)}
    turns = in_turns(calls, asked.rounds, SECONDS, clock_of(asked))
    told = cells((case.name, case.batch, threads), turns)
    return [*told, f"{case.error():.4f}", f"{peer.error():.4f}"]


def main() -> None:
    """Make, time, print."""
    asked = settled(arguments(__doc__).parse_args())
    nncf.set_log_level(logging.ERROR)
    begin(HEADS, f"NNCF {nncf.__version__}, OpenVINO {ov.__version__.split('-')[0]}, ")
    with torch.no_grad():
        for case in cases(asked.net, asked.batch, asked.threads[0]):
            with redirect_stdout(sys.stderr):  # its progress is no part of the table
                peer = Peer(case)
            for threads in asked.threads:
                show(row(case, peer, threads, asked))


if __name__ == "__main__":
    main()
