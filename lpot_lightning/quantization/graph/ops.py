"""What of int8 stands in a graph: two ops, whose work is done by `kernels`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from lpot_lightning.quantization.kernels.grid import Grid

_LAYERS: WeakValueDictionary[int, nn.Module] = WeakValueDictionary()
_NUMBERS = count(1)
_LIBRARY: Any = torch.library.Library("lpot_lightning", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define("quantize(Tensor x, int number) -> Tensor")
_LIBRARY.define("layer(Tensor x, int number) -> Tensor")


def numbered(layer: nn.Module) -> int:
    """Return a number by which a graph calls ``layer``, in this process and while it lives."""
    number = next(_NUMBERS)
    _LAYERS[number] = layer
    return number


def layer_of(number: int) -> nn.Module:
    """Return the layer that got ``number``."""
    return _LAYERS[number]


def grid_of(number: int) -> Grid:
    """Return the grid that the layer with ``number`` has its input on."""
    grid = _LAYERS[number].x
    assert isinstance(grid, Grid)
    return grid


@torch.library.impl(_LIBRARY, "quantize", "CompositeExplicitAutograd")
def _quantize(x: Tensor, number: int) -> Tensor:
    return grid_of(number).quantize(x)


@torch.library.impl(_LIBRARY, "layer", "CompositeExplicitAutograd")
def _layer(x: Tensor, number: int) -> Tensor:
    found: Tensor = _LAYERS[number](x)
    return found


@torch.library.register_fake("lpot_lightning::quantize", lib=_LIBRARY)  # type: ignore[untyped-decorator]
def _quantize_fake(x: Tensor, number: int) -> Tensor:
    return torch.empty_like(x, dtype=grid_of(number).dtype)


@torch.library.register_fake("lpot_lightning::layer", lib=_LIBRARY)  # type: ignore[untyped-decorator]
def _layer_fake(x: Tensor, number: int) -> Tensor:
    shaped: Tensor = _LAYERS[number].shaped(x)  # type: ignore[operator]
    return shaped


QUANTIZE: Callable[[Tensor, int], Tensor] = torch.ops.lpot_lightning.quantize.default
LAYER: Callable[[Tensor, int], Tensor] = torch.ops.lpot_lightning.layer.default
