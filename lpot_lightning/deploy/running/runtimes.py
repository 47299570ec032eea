"""From the ending of a file to what runs it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from lpot_lightning.deploy.options import ONNXRUNTIME, OPENVINO, form_of
from lpot_lightning.deploy.running import onnx_runtime, openvino_runtime, torch_runtime
from lpot_lightning.deploy.running.onnx_runtime import OnnxRuntime
from lpot_lightning.deploy.running.openvino_runtime import OpenVinoRuntime
from lpot_lightning.deploy.running.runtime import Runtime
from lpot_lightning.deploy.running.torch_runtime import TorchRuntime
from lpot_lightning.errors import ArtifactError, ConfError, did_you_mean, quoted
from lpot_lightning.machine.files import expanded

TORCH = "torch"
_RUN_BY = {"onnx": (ONNXRUNTIME, OPENVINO), "openvino": (OPENVINO,)}
_VERSIONS: dict[str, Callable[[], str]] = {
    ONNXRUNTIME: onnx_runtime.version,
    OPENVINO: openvino_runtime.version,
    TORCH: torch_runtime.version,
}


def open_file(
    path: str | os.PathLike[str], *, threads: int | None = None, runtime: str | None = None
) -> Runtime:
    """Open an exported file to run it.

    A file that was compiled ahead of time is machine code, and TorchScript a program: open only
    what you trust. A ``.pt2`` is refused that would have torch run more than ops of its own.

    Args:
        path: ends in one of ``FORMS``.
        threads: that it computes with; ``None`` for as many as torch has.
        runtime: ``"onnxruntime"``, ``"openvino"`` or ``"torch"``; ``None`` for the one of the form,
            of an ``.onnx`` ONNX Runtime where it is installed.

    Raises:
        ConfError: if the ending is that of no form, or the runtime is none for it.
        ArtifactError: if there is no such file, or it is damaged.
        ExportError: if what runs it is not installed.

    Example::

        opened = open_file("model.onnx", threads=4)
        (scores,) = opened(images)
    """
    where = expanded(path)
    chosen = _chosen(where, runtime)
    check_there(where)
    return _opener(chosen, where)(where, threads=threads)


def check_there(path: Path) -> None:
    """Raise an ``ArtifactError`` if there is no file at ``path``."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise ArtifactError(f"`{path}` {what}; allowed: a file that a model was exported to")


def runtime_name(path: str | os.PathLike[str], runtime: str | None = None) -> str:
    """Return what ``open_file`` would run ``path`` by, with its version; nothing is opened.

    Raises:
        LpotError: as ``open_file`` does, but for what is in the file.
    """
    return _VERSIONS[_chosen(expanded(path), runtime)]()


def _opener(chosen: str, path: Path) -> Callable[..., Runtime]:
    if chosen == TORCH:
        return partial(TorchRuntime, form=form_of(path))
    return OnnxRuntime if chosen == ONNXRUNTIME else OpenVinoRuntime


def _chosen(path: Path, runtime: str | None) -> str:
    allowed = _RUN_BY.get(form_of(path), (TORCH,))
    if runtime is None:
        return next(filter(find_spec, allowed), allowed[0])
    if runtime not in allowed:
        near = did_you_mean(str(runtime), allowed)
        raise ConfError(
            f"`runtime` is `{runtime}`; allowed for `{path.name}`: {quoted(allowed)}.{near}"
        )
    return runtime
