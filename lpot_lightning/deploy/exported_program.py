"""A program as `torch.export` has it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx

from lpot_lightning.deploy.calls import Input
from lpot_lightning.errors import ExportError, in_one_line


def exported_program(
    module: fx.GraphModule, inputs: Sequence[Input]
) -> torch.export.ExportedProgram:
    """Return ``module`` as ``torch.export`` has it, with sizes that may be any.

    Args:
        module: takes ``inputs``, gives a tuple of tensors.
        inputs: with the sizes that may be any.

    Raises:
        ExportError: if it cannot be exported, or fixes a size that is to be any.
    """
    sizes = {name: torch.export.Dim(name) for one in inputs for name in one.dynamic.values()}
    shapes = tuple({dim: sizes[name] for dim, name in one.dynamic.items()} for one in inputs)
    given = tuple(one.value for one in inputs)
    try:
        with torch.no_grad():
            return torch.export.export(module, given, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # whatever torch.export says
        told = in_one_line(error)
        raise ExportError(f"`torch.export` cannot take the model: {told}") from error
