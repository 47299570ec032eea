"""Repairs that cost no speed: weights and biases changed before they are rounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.quantization.equalization import Equalization, by_groups, times
from lpot_lightning.quantization.kernels.arithmetic import Int8Weight
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.observed_layer import ObservedLayer
from lpot_lightning.quantization.quantized_layer import (
    TABLES,
    Int8Form,
    channels_of,
    quantized,
    weight_of,
    with_trained_grid,
)
from lpot_lightning.recipe import CORRECTIONS, OpConfig

EQUALIZATION, WEIGHT, BIAS = CORRECTIONS


def factors_to_fill(op: Mapping[str, Any], layer: nn.Module) -> Tensor | None:
    """Return a place for the factors of an equalized layer, which are in the state.

    Args:
        op: as a tune config has it.
        layer: that it is of.
    """
    return torch.ones(channels_of(layer)) if EQUALIZATION in op.get("corrections", ()) else None


def corrected(
    observed: ObservedLayer,
    x: Grid,
    config: OpConfig,
    equalization: Equalization | None,
    pair: int,
) -> Int8Form:
    """Return what computes in int8 for a layer with a weight, corrected as ``config`` says.

    Args:
        observed: calibrated.
        x: the grid of its input, which is equalized where ``config`` says so.
        config: its ``corrections`` are done in the order of ``CORRECTIONS``.
        equalization: is needed where ``config`` asks for it.
        pair: what two integers of an output may come to, see ``Bounds``.
    """
    layer: Any = observed.layer
    if not config.corrections:
        return quantized(layer, x, pair=pair)
    exact, means, factors = weight_of(layer).detach().double(), observed.means, None
    if EQUALIZATION in config.corrections:
        assert equalization is not None
        factors = equalization.factors
        exact = times(layer, exact, factors)
        means = None if means is None else means / factors
    weight = Int8Weight.of(exact, layer.bias, pair=pair)
    if WEIGHT in config.corrections:
        spread = same_spread(exact, weight.dequantize())
        weight = Int8Weight.of(spread, layer.bias, pair=pair)
    if BIAS in config.corrections and means is not None:
        weight = _with_means(layer, weight, exact, means)
    return quantized(layer, x, weight, factors)


def equalized(
    layer: nn.Module, x: Grid | None, factors: Tensor | None, pair: int
) -> Int8Form | None:
    """Return what computes in int8 for a layer as it was trained, ``None`` where no range is known.

    Args:
        layer: with the trained weight.
        x: the grid of its input, divided by ``factors``; ``None`` for a table.
        factors: one a channel.
        pair: what two integers of an output may come to, see ``Bounds``.
    """
    if isinstance(layer, TABLES):
        return quantized(layer, None)
    if x is None or factors is None:
        return None if x is None else with_trained_grid(quantized(layer, x, pair=pair))
    exact = times(layer, weight_of(layer).detach().double(), factors)
    rounded = Int8Weight.of(exact, layer.bias, pair=pair)  # type: ignore[arg-type]
    return with_trained_grid(quantized(layer, x, rounded, factors))


def same_spread(exact: Tensor, held: Tensor) -> Tensor:
    """Return a weight whose rounding has nearly the spread and the mean of ``exact``, per output.

    It is LPOT's ``weight_correction`` (``lpot/algorithm/weight_correction.py``):
    ``r * exact + u`` with ``r = std(exact) / std(held)`` and ``u = mean(exact) - mean(r * held)``.
    LPOT adds 1e-5 to the second spread, which pulls channels of small weights towards zero, and
    rounds in the old scale, which cuts the largest weight off; here neither is done. Weights that
    are zero, as pruned ones, stay so: the others of the channel make up for the mean.

    Args:
        exact: outputs first.
        held: the same, rounded.
    """
    places, held = tuple(range(1, exact.dim())), held.to(exact.dtype)
    spread = held.std(places, correction=0, keepdim=True)
    ratio = torch.where(spread > 0, exact.std(places, correction=0, keepdim=True) / spread, 1.0)
    kept = exact != 0
    missing = (exact - ratio * held).sum(places, keepdim=True)
    shift = missing / kept.sum(places, keepdim=True).clamp(min=1)
    return ratio * exact + shift * kept


def _with_means(layer: nn.Module, weight: Int8Weight, exact: Tensor, means: Tensor) -> Int8Weight:
    """Let the mean of each output be what it was: rounding the weight has moved it.

    The shift is the sum of the weight's error times the mean of the input; see Nagel et al., 2019
    (arXiv:1906.04721), section 4.2, whose means are computed and not seen. LPOT's
    ``fast_bias_correction`` leaves a bias alone that is zero anywhere; here that does not matter.
    """
    lost = by_groups(layer, exact - weight.dequantize().double()).sum(3)
    shift = (lost * means.view(len(lost), 1, -1)).sum(2).flatten().float()
    bias = shift if weight.bias is None else weight.bias + shift
    return Int8Weight(weight.values, weight.scales, bias)
