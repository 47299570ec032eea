"""Int8 functions of a model that was quantized, as its files describe them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from lpot_lightning.errors import ArtifactError
from lpot_lightning.module.stand_in import StandIn
from lpot_lightning.quantization.corrections import factors_to_fill
from lpot_lightning.quantization.functions.forward import (
    FunctionOp,
    OwnerForward,
    QuantizedFunction,
    stand_in,
)
from lpot_lightning.quantization.graph.weight_calls import layer_like
from lpot_lightning.quantization.kernels.bounds import Bounds
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.quantized_layer import QuantizedLayer, unfilled
from lpot_lightning.quantization.rungs import WeightForm, on_rung
from lpot_lightning.recipe import Rung, config_of

_MOST_NUMBERS = 2**31


def rebuilt(
    model: nn.Module, ops: Mapping[str, tuple[Mapping[str, Any], Grid | None]], *, bounds: Bounds
) -> dict[str, StandIn]:
    """Return the int8 functions of a tune config, to be filled with tensors.

    Args:
        model: as the quantized one was.
        ops: by name, what the tune config says of each, and the grid of its input.
        bounds: of activations whose grid is found when they come.

    Raises:
        ArtifactError: if the model has no such module, or these are no shapes.
    """
    forwards: dict[str, OwnerForward] = {}
    for op, (said, grid) in ops.items():
        path, _, name = op.rpartition("#")
        if path not in forwards:
            forwards[path] = OwnerForward(_owner_at(model, path), said["function"]["lent"])
        forwards[path].ops[name] = _rebuilt(op, name, said, grid, bounds)
    return {path: stand_in(forward) for path, forward in forwards.items()}


def _rebuilt(
    op: str, name: str, said: Mapping[str, Any], grid: Grid | None, bounds: Bounds
) -> FunctionOp:
    described, function = said["function"], name.rpartition("_")[0]
    numbers, shape = tuple(described["numbers"]), described["shape"]
    size = 1
    for one in shape:
        size *= one
    if not 0 < size < _MOST_NUMBERS:
        raise ArtifactError(f"`{op}` has a weight of {shape}, which is no shape of one")
    geometry = function, numbers, str(described["padding"])
    layer = layer_like(geometry, shape, bias=described["bias"])
    made = FunctionOp(geometry)
    made.stored = str(described["stored"])
    form = _unfilled(layer, said, grid, bounds)
    made.int8 = QuantizedFunction.unfilled(form, shape[0], bias=described["bias"])
    return made


def _unfilled(
    layer: nn.Module, said: Mapping[str, Any], grid: Grid | None, bounds: Bounds
) -> WeightForm:
    config = config_of(said)
    if config.rung is not Rung.STATIC:
        return on_rung(layer, config, bounds=bounds, empty=True)
    form = unfilled(layer, grid, factors=factors_to_fill(said, layer))
    assert isinstance(form, QuantizedLayer)
    form.kernel.is_trained = config.is_trained
    return form


def _owner_at(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        raise ArtifactError(f"the model has no `{path}`, that of the files has") from error
