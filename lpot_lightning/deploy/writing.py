"""From one graph to a file of a form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from lpot_lightning.deploy.calls import own, tensors_in
from lpot_lightning.deploy.native.aoti import write_aoti
from lpot_lightning.deploy.native.pt2 import write_pt2
from lpot_lightning.deploy.native.torchscript import write_torchscript
from lpot_lightning.deploy.onnx.onnx_file import onnx_model
from lpot_lightning.deploy.onnx.placing import Placed, placed
from lpot_lightning.deploy.options import ONNXRUNTIME, OPENVINO, ExportOptions
from lpot_lightning.deploy.running.runtime import package
from lpot_lightning.deploy.whole_graph import WholeGraph
from lpot_lightning.errors import ExportError, in_one_line
from lpot_lightning.machine.files import write_file

TORCH = "torch"


@dataclass(frozen=True, kw_only=True)
class Written:
    """A file, and what it was made of.

    Args:
        target: the runtime that it is for.
        runtime: that is to run it here.
        computes: what it should give, in torch; ``None``: what the model gives.
        placed: the program as it was written, where that has pairs.
        near: a program with pairs that computes nearly the same, where the file is not to be equal.
        onnx: the ONNX file that it is, or was made of; its folder goes when the export is over.
        exact: whether it is to give the same bits, but for last ones of floats.
        notes: what there is to say.
    """

    target: str
    runtime: str
    computes: Callable[..., Sequence[Tensor]] | None = None
    placed: Placed | None = None
    near: Placed | None = None
    onnx: Path | None = None
    exact: bool = False
    notes: list[str] = field(default_factory=list)


def write(
    form: str,
    model: nn.Module,
    whole: WholeGraph,
    path: Path,
    options: ExportOptions,
    calls: Sequence[Sequence[Tensor]],
) -> Written:
    """Write ``whole`` to ``path``.

    Args:
        form: one of ``FORMS``.
        model: whose method ``whole`` is.
        whole: see there.
        path: of the file; its folder is there.
        options: see there.
        calls: inputs of the file, from the calibration.

    Raises:
        ExportError: if it cannot be written.
    """
    return _WRITERS[form](model, whole, path, options, calls)


def _onnx(
    _: nn.Module,
    whole: WholeGraph,
    path: Path,
    options: ExportOptions,
    calls: Sequence[Sequence[Tensor]],
) -> Written:
    target = options.target or (ONNXRUNTIME if _runs(ONNXRUNTIME, OPENVINO) else OPENVINO)
    made = _paired(whole, target, path, options, calls)
    runtime = target if find_spec(target) is not None else _other(target)
    notes = [] if runtime == target else [f"`{target}` is not installed here: run by `{runtime}`"]
    return Written(
        target=target,
        runtime=runtime,
        computes=made.computes,
        placed=made,
        onnx=path,
        notes=notes,
    )


def _paired(
    whole: WholeGraph,
    target: str,
    path: Path,
    options: ExportOptions,
    calls: Sequence[Sequence[Tensor]],
) -> Placed:
    """Write ONNX with pairs for a runtime, and return what it was made of."""
    made = placed(whole, target, calls)
    content = onnx_model(made.module, whole.inputs, whole.given.names, made.ops, options.opset)
    write_file(path, content)
    return made


def _runs(target: str, other: str) -> bool:
    """Whether a file is to be for ``target`` where nothing is asked for."""
    return find_spec(target) is not None or find_spec(other) is None


def _other(target: str) -> str:
    return OPENVINO if target == ONNXRUNTIME else ONNXRUNTIME


def _openvino(
    _: nn.Module,
    whole: WholeGraph,
    path: Path,
    options: ExportOptions,
    calls: Sequence[Sequence[Tensor]],
) -> Written:
    openvino = package("openvino", "openvino")
    between = path.parent / "between" / "model.onnx"
    between.parent.mkdir()
    made = _paired(whole, OPENVINO, between, options, calls)
    try:
        model = openvino.Core().read_model(str(between))
        openvino.save_model(model, str(path), compress_to_fp16=False)
    except Exception as error:  # whatever OpenVINO says
        raise ExportError(f"OpenVINO cannot take the model: {in_one_line(error, 300)}") from error
    return Written(
        target=OPENVINO, runtime=OPENVINO, computes=made.computes, placed=made, onnx=between
    )


def _pt2(_: nn.Module, whole: WholeGraph, path: Path, *more: object) -> Written:
    written = write_pt2(whole, path)

    def computes(*tensors: Tensor) -> Sequence[Tensor]:
        with torch.no_grad():
            return tensors_in(written(*own(tensors)))

    return Written(target=TORCH, runtime=TORCH, computes=computes, exact=True)


def _aoti(_: nn.Module, whole: WholeGraph, path: Path, *more: object) -> Written:
    write_aoti(whole, path)
    notes = ["it was compiled for CPUs like this machine's, and runs on others that can do as much"]
    if whole.program.kept:
        notes.append("it holds weights as floats where they alone are int8: `.pt2` has integers")
    near = placed(whole, OPENVINO, [])
    return Written(target=TORCH, runtime=TORCH, near=near, notes=notes)


def _torchscript(model: nn.Module, whole: WholeGraph, path: Path, *more: object) -> Written:
    write_torchscript(model, whole, path)
    return Written(target=TORCH, runtime=TORCH, exact=True)


_WRITERS: dict[str, Callable[..., Written]] = {
    "onnx": _onnx,
    "openvino": _openvino,
    "pt2": _pt2,
    "aoti": _aoti,
    "torchscript": _torchscript,
}
