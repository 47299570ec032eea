"""What stands in a captured graph for a layer, whatever precision it has just now."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

_LAYERS: WeakValueDictionary[str, Any] = WeakValueDictionary()
_NUMBERS = count(1)
_LIBRARY: Any = torch.library.Library("lpot_lightning", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define("layer(Tensor x, str name) -> Tensor")


def named(layer: Any) -> str:
    """Return a name by which a graph calls ``layer``, in this process and while it lives."""
    name = f"{next(_NUMBERS)}"  # Dynamo makes a symbol of a number that it sees change
    _LAYERS[name] = layer
    return name


def layer_of(name: str) -> Any:
    """Return the layer that got ``name``."""
    return _LAYERS[name]


@torch.library.impl(_LIBRARY, "layer", "CompositeExplicitAutograd")
def _layer(x: Tensor, name: str) -> Tensor:
    found: Tensor = _LAYERS[name](x)
    return found


@torch.library.register_fake("lpot_lightning::layer", lib=_LIBRARY)  # type: ignore[untyped-decorator]
def _layer_fake(x: Tensor, name: str) -> Tensor:
    shaped: Tensor = _LAYERS[name].shaped(x)
    return shaped


LAYER: Callable[[Tensor, str], Tensor] = torch.ops.lpot_lightning.layer.default
