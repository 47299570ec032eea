"""``lpot-lightning export``: the model of a workspace as a file for other runtimes."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lpot_lightning.artifacts import storage
from lpot_lightning.artifacts.earlier import CHECKPOINT
from lpot_lightning.commands.answer import CommandAnswer
from lpot_lightning.commands.export import export
from lpot_lightning.commands.show import workspace_at
from lpot_lightning.errors import ConfError, did_you_mean, in_short
from lpot_lightning.machine.files import expanded, read_file
from lpot_lightning.machine.plain_yaml import read_plain_yaml
from lpot_lightning.machine.reading import looking_at
from lpot_lightning.module.constants import tensors_in
from lpot_lightning.trainer.checkpoint import fp32_from_checkpoint
from lpot_lightning.trainer.package import either

_OPTIONS = ("target", "opset", "method", "input_names", "output_names")


def export_for(asked: argparse.Namespace) -> CommandAnswer:
    """Export what the arguments of the command say, and return what came of it.

    Raises:
        LpotError: of the kind that says what is wrong.
    """
    given = {name: getattr(asked, name) for name in _OPTIONS}
    options = {name: value for name, value in given.items() if value is not None}
    options["check"], options["dynamic"] = not asked.no_check, _dynamic(asked)
    if asked.example is not None:
        options["example"] = _example_in(expanded(asked.example))
    folder = workspace_at(asked.workspace)
    model = _model_of(_class_of(asked.kind), asked, folder)
    exported = export(folder, asked.path, model, **options)
    return CommandAnswer(exported.table, exported.to_dict)


def _dynamic(asked: argparse.Namespace) -> Any:
    if asked.static or asked.dynamic is None:
        return not asked.static
    found = _mapping("--dynamic", asked.dynamic)
    return {name: _numbered(dims) for name, dims in found.items()}


def _numbered(dims: Any) -> Any:
    """Return dimensions by their numbers, which may have come as texts."""
    if not isinstance(dims, dict):
        return dims
    return {int(one) if str(one).isdecimal() else one: called for one, called in dims.items()}


def _example_in(path: Path) -> Any:
    """Return what a model is called with, of a file that ``torch.save`` has written.

    Raises:
        ArtifactError: if it cannot be read, or runs code when it is.
        ConfError: if it holds no arguments.
    """
    name = f"--example {path}"
    found = storage.read_tensors(read_file(path, storage.memory()), name)
    by_name = isinstance(found, dict) and all(isinstance(one, str) for one in found)
    if not by_name and not isinstance(found, Tensor | tuple | list):
        raise ConfError(
            f"`{name}` holds a `{type(found).__name__}`; allowed: a tensor, a tuple of arguments or"
            " a dict of keyword arguments"
        )
    try:
        tensors = tensors_in(found)
    except RecursionError as error:
        raise ConfError(f"`{name}` holds something that holds itself; give a plain one") from error
    storage.plain_tensors({f"tensor {place}": one for place, one in enumerate(tensors)}, name)
    return found


def _mapping(name: str, text: str) -> dict[str, Any]:
    try:
        found = read_plain_yaml(text.encode())
    except (yaml.YAMLError, ValueError) as error:
        raise ConfError(f"`{name}` is no YAML ({in_short(error)})") from error
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found):
        raise ConfError(f"`{name}` is `{text}`; allowed: a mapping, such as `{{channels: 24}}`")
    return found


def _class_of(name: str) -> type[nn.Module]:
    """Import what ``package.module:Class`` names; modules of the current folder are found, too.

    Raises:
        ConfError: if it is not there, or no class of models.
    """
    module_name, _, class_name = name.partition(":")
    if not module_name or not class_name.isidentifier():
        raise ConfError(f"`--class` is `{name}`; allowed: `package.module:Class`")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does, and a script that is installed does not
    try:
        module = import_module(module_name)
    except Exception as error:  # whatever is at the top of a file of the user's
        raise ConfError(f"`--class`: cannot import `{module_name}` ({in_short(error)})") from error
    found = getattr(module, class_name, None)
    if isinstance(found, type) and issubclass(found, nn.Module):
        return found
    if found is not None:
        raise ConfError(f"`--class` is `{name}`, which is no class of an `nn.Module`")
    near = did_you_mean(class_name, vars(module))
    raise ConfError(
        f"`--class`: there is no `{class_name}` in `{module_name}`{'.' * bool(near)}{near}"
    )


def _model_of(kind: type[nn.Module], asked: argparse.Namespace, folder: Path) -> nn.Module:
    """Return the fp32 model; its weights are of no matter, but what its class is called with is."""
    given = {} if asked.init_args is None else _mapping("--init-args", asked.init_args)
    checkpoint = asked.checkpoint
    if issubclass(kind, either(LightningModule)):
        own = folder / CHECKPOINT
        with looking_at(folder):
            if checkpoint is None and asked.init_args is None and own.is_file():
                checkpoint = str(own)
        if checkpoint is not None:
            lit: Any = kind
            model: nn.Module = fp32_from_checkpoint(lit, checkpoint, **given)
            return model
    elif checkpoint is not None:
        raise ConfError(
            f"`--checkpoint` is for a LightningModule, and `{kind.__name__}` is none: give what it"
            " is made with in `--init-args`"
        )
    try:
        return kind(**given)
    except Exception as error:  # whatever `__init__` says
        raise ConfError(
            f"`{kind.__name__}` cannot be made ({in_short(error)}); give what it is made with, as"
            " `--init-args '{channels: 24}'`, or for a LightningModule its `--checkpoint`"
        ) from error
