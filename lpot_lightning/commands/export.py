"""A model, a result or a workspace as a file for other runtimes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import nn

from lpot_lightning.artifacts import storage
from lpot_lightning.artifacts.restore import load
from lpot_lightning.artifacts.tune_config import read_configure
from lpot_lightning.callbacks.later_judge import LaterJudge
from lpot_lightning.commands.report import facts_in
from lpot_lightning.deploy.asking import export_as
from lpot_lightning.deploy.exported import Exported
from lpot_lightning.deploy.names import options_of
from lpot_lightning.deploy.options import ExportOptions, form_of
from lpot_lightning.deploy.origin import Origin
from lpot_lightning.deploy.requirements import check_installed
from lpot_lightning.deploy.stored import origin_of
from lpot_lightning.errors import ArtifactError, ConfError, quoted
from lpot_lightning.machine.files import expanded
from lpot_lightning.machine.reading import looking_at
from lpot_lightning.module.copying import second_model
from lpot_lightning.runs.pruning_result import NAMES
from lpot_lightning.runs.reporting.report_file import note_exports
from lpot_lightning.runs.result import Result
from lpot_lightning.trainer.package import either

_BOTH = storage.Names(), NAMES


def export(
    source: Result | nn.Module | str | os.PathLike[str],
    path: str | os.PathLike[str],
    model: nn.Module | None = None,
    *,
    trainer: Trainer | None = None,
    data: Any = None,
    **options: Any,
) -> Exported:
    """Write a model to a file that other runtimes run, and check the file.

    Args:
        source: what a run came to; a model, int8 or fp32, with an ``example`` of what it is called
            with; or the workspace of a run.
        path: of the file. Its ending says the form: ``.onnx``, ``.xml`` (OpenVINO), ``.pt2``
            (``torch.export``), ``.aoti.pt2`` (AOTInductor), ``.ts`` (TorchScript).
        model: with a workspace, the fp32 model as its class makes it; it is left as it is.
        trainer: with a workspace and ``judge``, whose validation loop judges; it is left as it is.
        data: what it validates on, loaders or a datamodule; ``None`` for the model's own.
        options: see ``ExportOptions``: ``method``, ``example``, ``dynamic``, ``input_names``,
            ``output_names``, ``opset``, ``target``, ``check``, ``judge``.

    Raises:
        ConfError: if there is no such form, or no such option or value of it, or ``model`` is
            missing or of no use.
        ArtifactError: if the workspace cannot be read, or is of another model.
        ExportError: if it cannot be written in this form, or the file computes something else;
            what was at ``path`` is there as before then.

    Example::

        export("lpot_workspace/pytorch_fx/digits", "digits.onnx", LitDigits())
        export(int8, "digits.pt2", example=images)
    """
    asked = options_of(options)
    if isinstance(source, str | os.PathLike):
        judging = partial(_with_judge, trainer, data)
        return _of_workspace(expanded(source), path, _checked(source, model), asked, judging)
    for name, value in {"model": model, "trainer": trainer, "data": data}.items():
        if value is not None:
            raise ConfError(f"`{name}` goes with a workspace, and none is exported: leave it out")
    if isinstance(source, Result):
        return source.export(path, **options)
    if isinstance(source, nn.Module):
        return export_as(_at_rest(source), path, asked)
    raise ConfError(
        f"what is exported is a `{type(source).__name__}`; allowed: a result, a model, or the path"
        " of a workspace"
    )


def _checked(workspace: str | os.PathLike[str], model: object) -> nn.Module:
    if not isinstance(model, nn.Module):
        came = "is missing" if model is None else f"is a `{type(model).__name__}`"
        raise ConfError(
            f"`model` {came}: the files of `{os.fspath(workspace)}` hold tensors, and the model is"
            " made from them and the fp32 one: `export(workspace, path, model)`"
        )
    return model


def _with_judge(trainer: Trainer | None, data: Any, model: nn.Module, origin: Origin) -> Origin:
    """Return what is known of ``model``, and who judges it, if a trainer is given."""
    if trainer is None:
        return origin
    if not isinstance(trainer, either(Trainer)) or not isinstance(model, either(LightningModule)):
        raise ConfError(
            f"`trainer` is a `{type(trainer).__name__}`, and `model` a `{type(model).__name__}`;"
            " allowed: a Lightning `Trainer` for a LightningModule"
        )
    return replace(origin, judge=LaterJudge.by(trainer, model, data, origin.monitor))


def _at_rest(model: nn.Module) -> nn.Module:
    """Return ``model`` itself, if it is in eval mode on the CPU, else a copy that is."""
    tensors = [*model.parameters(), *model.buffers()]
    at_rest = not any(one.training for one in model.modules())
    return model if at_rest and all(one.is_cpu for one in tensors) else second_model(model)


def _of_workspace(
    folder: Path,
    path: str | os.PathLike[str],
    model: nn.Module,
    options: ExportOptions,
    judging: Callable[[nn.Module, Origin], Origin],
) -> Exported:
    check_installed(form_of(Path(path)), options)
    names = _names_in(folder)
    configure_path, weights_path = folder / names.configure, folder / names.weights
    made = load(configure_path, weights_path, model)
    configure = read_configure(configure_path)
    wanted = configure["weights"]["sha256"], configure["fp32_model"]
    tensors = storage.read_weights(storage.read_checked(weights_path, *wanted), weights_path)
    origin = origin_of(configure, tensors, options.method)
    exported = export_as(made, path, options, judging(made, origin))
    note_exports(folder, [exported], lambda: facts_in(folder))
    return exported


def _names_in(folder: Path) -> storage.Names:
    """Return which files are there: those of an int8 model, else those of a pruned one."""
    with looking_at(folder):
        for names in _BOTH:
            if (folder / names.configure).is_file():
                return names
    raise ArtifactError(
        f"`{folder}` holds none of {quoted(one.configure for one in _BOTH)}; allowed: the workspace"
        " of a quantization or a pruning"
    )
