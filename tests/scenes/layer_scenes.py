"""A model whose layers are calibrated for int8, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.module.calls import recorded
from lpot_lightning.module.copying import second_model
from lpot_lightning.module.stand_in import put, replaced
from lpot_lightning.quantization.layers import PreparedLayers
from lpot_lightning.quantization.onednn import OnednnBackend
from lpot_lightning.recipe import FP32, Recipe


def shown(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def calibrated(
    model: nn.Module, *batches: Any, settled: bool = True, by: Callable[[Any], Any] | None = None
) -> PreparedLayers:
    """Return the layers of a model in eval mode that has seen ``batches``, one argument each.

    ``by`` is what is called with them, in place of the model.
    """
    call = by or model
    with torch.no_grad(), recorded(model) as calls:
        call(batches[0])
    prepared = OnednnBackend().prepare(model, calls)
    with torch.no_grad(), replaced(model, prepared.observed):
        for batch in batches:
            call(batch)
    if settled:
        prepared.settle()
    return prepared


def recipe_of(prepared: PreparedLayers, *corrections: str, algorithm: str = "minmax") -> Recipe:
    """Return all int8, with those of the corrections that each op can have."""
    found = {}
    for op in prepared.ops:
        configs = [one for one in op.configs if one.activation.algorithm == algorithm]
        own = tuple(one for one in corrections if one in op.corrections)
        found[op.name] = replace(configs[0], corrections=own) if configs else FP32
    return Recipe.of(found)


def converted(model: nn.Module, prepared: PreparedLayers, recipe: Recipe) -> nn.Module:
    made = second_model(model)
    put(made, prepared.convert(recipe))
    return made


def error(found: nn.Module, wanted: nn.Module, x: Any) -> float:
    """Return how far the outputs are apart, relative to their size."""
    with torch.no_grad():
        a, b = found(x), wanted(x)
    return float((a - b).norm() / b.norm())


def error_with(model: nn.Module, prepared: PreparedLayers, x: Any, *corrections: str) -> float:
    return error(converted(model, prepared, recipe_of(prepared, *corrections)), model, x)
