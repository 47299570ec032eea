"""How fast exported files are, beside what the runtimes' own quantizers make of the same weights.

It runs in the environment that `make bench-peers` installs. Ours are files of `export_model`: ahead
of time compiled, ONNX for ONNX Runtime, ONNX for OpenVINO. ONNX Runtime's own is `quantize_static`
(QDQ, channels of weights by themselves, u8s8) of our export of the net in fp32, OpenVINO's is
NNCF's; both see our calibration data and leave the rest at its defaults. All files are of a fixed
batch, are opened by `open_file`, and run in turns, in one order and the other. Errors are those of
answers to new data, relative to torch's fp32; agreement is the share of the greatest scores that
are fp32's.

    make bench-peers
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import onnxruntime
import openvino as ov
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
    shape_inference,
)
from today import CALIBRATION, SECONDS, Case, arguments, begin, cases, clock_of, settled, show
from torch import Tensor, nn
from turns import Turns, in_turns

from lpot_lightning.deploy.comparing import Distance, distance
from lpot_lightning.deploy.export import export_model
from lpot_lightning.deploy.options import ONNXRUNTIME, OPENVINO, ExportOptions
from lpot_lightning.deploy.origin import Call, Origin
from lpot_lightning.deploy.running.runtimes import open_file

FP32, INT8, AOTI = "fp32", "int8", "AOTI"
ORT, ORT_OWN = "ONNX Runtime", "ONNX Runtime's own"
OV, OV_OWN = "OpenVINO", "NNCF in OpenVINO"
WAYS = (FP32, INT8, AOTI, ORT, ORT_OWN, OV, OV_OWN)
PEERS = {ORT: ORT_OWN, OV: OV_OWN}
RUNTIMES = {ORT: ONNXRUNTIME, ORT_OWN: ONNXRUNTIME, OV: OPENVINO, OV_OWN: OPENVINO}
HEADS = (
    "net",
    "batch",
    "threads",
    "file",
    "ms",
    "MB",
    "relative error",
    "agreement",
    "fp32 time / its time",
    "its time / peer's",
)
NONE = "-"


class Samples(CalibrationDataReader):  # type: ignore[misc]
    """Our calibration data, as ONNX Runtime wants to be given it."""

    def __init__(self, name: str, batches: tuple[Tensor, ...]) -> None:
        self._left = iter([{name: one.numpy()} for one in batches])

    def get_next(self) -> Mapping[str, Any] | None:
        """Return a batch, or ``None`` behind the last one."""
        return next(self._left, None)


class Files:
    """What is made of a case, in a folder.

    Args:
        case: see there.
        folder: that is there.
    """

    def __init__(self, case: Case, folder: Path) -> None:
        self.case, self.folder = case, folder
        samples = case.kind.data(max(CALIBRATION, case.batch), 1)
        self.calibration = samples.split(case.batch)
        self.paths = {way: path for way, make in self._makers.items() if (path := make())}

    @property
    def _makers(self) -> dict[str, Callable[[], Path | None]]:
        return {
            AOTI: self._aoti,
            ORT: partial(self._exported, self.case.int8, "ort.onnx", ONNXRUNTIME),
            ORT_OWN: self._static,
            OV: partial(self._exported, self.case.int8, "openvino.onnx", OPENVINO),
            OV_OWN: self._nncf,
        }

    def _exported(self, model: nn.Module, name: str, target: str | None = None) -> Path:
        path = self.folder / name
        options = ExportOptions(dynamic=False, target=target, check=False)
        origin = Origin(root="", calls=tuple(Call((one,)) for one in self.calibration))
        export_model(model, path, options, origin)
        return path

    def _aoti(self) -> Path | None:
        try:
            return self._exported(self.case.int8, "int8.aoti.pt2")
        except Exception as error:  # whatever a compiler says, or that there is none
            print(f"{self.case.name}: nothing compiled: {error!r:.200}", file=sys.stderr)
            return None

    def _static(self) -> Path:
        fp32 = self._exported(self.case.fp32, "fp32.onnx")
        ready, path = self.folder / "ready.onnx", self.folder / "static.onnx"
        shape_inference.quant_pre_process(fp32, ready)
        (name,) = open_file(fp32, threads=1, runtime=ONNXRUNTIME).inputs
        quantize_static(
            ready,
            path,
            Samples(name, self.calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return path

    def _nncf(self) -> Path:
        import nncf

        sample, kind = self.case.sample, self.case.kind
        model = ov.convert_model(self.case.fp32, example_input=sample, input=[*sample.shape])
        made = nncf.quantize(
            model,
            nncf.Dataset([one.numpy() for one in self.calibration]),
            subset_size=len(self.calibration),
            model_type=nncf.ModelType.TRANSFORMER if kind.transformer else None,
        )
        path = self.folder / "nncf.xml"
        ov.save_model(made, path, compress_to_fp16=False)
        return path

    def calls(self, threads: int) -> dict[str, Callable[[Tensor], Any]]:
        """Return what computes, with so many threads."""
        opened = {
            way: open_file(path, threads=threads, runtime=RUNTIMES.get(way))
            for way, path in self.paths.items()
        }
        found = {FP32: self.case.fp32, INT8: self.case.int8, **opened}
        return {way: found[way] for way in WAYS if way in found}

    @cached_property
    def megabytes(self) -> dict[str, float]:
        """How large each file is; of nets in torch, the state."""
        state = self.case.fp32.state_dict().values()
        fp32 = sum(one.numel() * one.element_size() for one in state)
        files = {way: _bytes(path) for way, path in self.paths.items()}
        found = {FP32: fp32, INT8: fp32 / self.case.result.size_ratio, **files}
        return {way: size / 1e6 for way, size in found.items()}

    @cached_property
    def distances(self) -> dict[str, Distance]:
        """How far answers to new data are from fp32's."""
        new = self.case.kind.data(max(CALIBRATION, self.case.batch), 3).split(self.case.batch)
        calls = self.calls(1)
        wanted = [one for batch in new for one in _tensors(calls[FP32](batch))]
        return {
            way: distance([one for batch in new for one in _tensors(call(batch))], wanted)
            for way, call in calls.items()
        }


def _tensors(answer: Any) -> list[Tensor]:
    return [answer] if isinstance(answer, Tensor) else list(answer)


def _bytes(path: Path) -> int:
    beside = path.with_suffix(".bin")
    return path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)


def cells(
    case: tuple[str, int, int],
    way: str,
    turns: Turns,
    megabytes: Mapping[str, float],
    distances: Mapping[str, Distance],
) -> list[str]:
    """Return the row of a way.

    Args:
        case: net, batch, threads.
        way: one of ``WAYS``.
        turns: of those that there are.
        megabytes: by way.
        distances: by way.
    """
    if way not in turns.seconds:
        return [*map(str, case), way, *[NONE] * (len(HEADS) - 4)]
    far, peer = distances[way], PEERS.get(way)
    return [
        *map(str, case),
        way,
        f"{turns.ms(way):.2f}",
        f"{megabytes[way]:.2f}",
        f"{far.relative:.4f}",
        NONE if far.agreement is None else f"{far.agreement:.3f}",
        str(turns.ratio(FP32, way)),
        NONE if peer is None else str(turns.ratio(way, peer)),
    ]


def show_rows(files: Files, threads: int, asked: argparse.Namespace) -> None:
    """Time a case with so many threads, and print its rows."""
    torch.set_num_threads(threads)
    case = files.case
    calls = {way: partial(call, case.sample) for way, call in files.calls(threads).items()}
    turns = in_turns(calls, asked.rounds, SECONDS, clock_of(asked))
    for way in WAYS:
        told = (case.name, case.batch, threads)
        show(cells(told, way, turns, files.megabytes, files.distances))


def main() -> None:
    """Make, time, print."""
    os.environ["NNCF_CI"] = "1"  # no telemetry
    import nncf  # after that, and where tests have none

    asked = settled(arguments(__doc__).parse_args())
    nncf.set_log_level(logging.ERROR)
    logging.getLogger().setLevel(logging.ERROR)  # ONNX Runtime's advice for its quantizer
    about = f"NNCF {nncf.__version__}, OpenVINO {ov.__version__.split('-')[0]}"
    begin(HEADS, f"{about}, ONNX Runtime {onnxruntime.__version__}, ")
    with torch.no_grad():
        for case in cases(asked.net, asked.batch, asked.threads[0]):
            with tempfile.TemporaryDirectory() as folder:
                with redirect_stdout(sys.stderr):  # progress is no part of the table
                    files = Files(case, Path(folder))
                for threads in asked.threads:
                    show_rows(files, threads, asked)


if __name__ == "__main__":
    main()
