"""By what the channels of an input are divided, so that one scale suits all of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lpot_lightning.quantization.observed_layer import ObservedLayer
from lpot_lightning.quantization.quantized_layer import weight_of
from lpot_lightning.quantization.ranges.histogram import Histogram

_ENOUGH = 0.1
"""Change of a logarithm to the base 2 that the rounding to whole ones makes of no account."""
_MOST_STEPS = 20
_MOST_EXPONENT = 20


@dataclass(frozen=True)
class Equalization:
    """How the input of a layer is made fit for one scale.

    Args:
        factors: one a channel, powers of two: to divide and to multiply by them rounds nothing.
        seen: the input divided by them.
    """

    factors: Tensor
    seen: Histogram

    @classmethod
    def of(cls, observed: ObservedLayer, example: Tensor | None) -> Equalization | None:
        """Return that of a calibrated layer; ``None`` where it would change nothing.

        Args:
            observed: of a kind with a weight.
            example: an input. Its values say how often which ones come; how far they go say the
                ends that the calibration saw.
        """
        if observed.ends is None or example is None:
            return None
        least, greatest = observed.ends
        sizes = torch.maximum(least.abs(), greatest.abs())
        factors = factors_of(by_groups(observed.layer, weight_of(observed.layer)), sizes)
        seen = Histogram()
        seen.count(example.detach() / factors.view(-1, *[1] * spatial_dims(observed.layer)))
        if seen.refused or not seen.batches or bool((factors == factors[0]).all()):
            return None
        seen.count(torch.stack([least / factors, greatest / factors]))  # ends that came later
        return cls(factors, seen)


def factors_of(weight: Tensor, sizes: Tensor) -> Tensor:
    """Return by what each channel is divided, a power of two, 1 for one that is always zero.

    A factor of ``sqrt(r1 / r2)`` makes the range ``r1`` of a channel and the range ``r2`` of the
    weights that read it the same: cross-layer equalization (Nagel et al., 2019, arXiv:1906.04721,
    eq. 11) for weights on both sides, and SmoothQuant (Xiao et al., 2022, arXiv:2211.10438, eq. 4,
    with a strength of 0.5) for values that were seen. Each output of a weight has a scale of its
    own, so ``r2`` is the range in relation to that scale, which the factors change: they are gone
    over until they stay.

    Args:
        weight: ``[groups, outputs, inputs, places]``.
        sizes: the greatest absolute value of each channel, ``[groups * inputs]``.

    Example::

        factors_of(torch.ones(1, 1, 2, 1), torch.tensor([4.0, 0.25]))  # [2, 0.5]
    """
    largest = weight.detach().double().abs().amax(3)
    sizes = sizes.double()
    read = (largest > 0).any(1).flatten() & (sizes > 0)
    factors = torch.ones_like(sizes)
    for _ in range(_MOST_STEPS if read.any() else 0):
        steps = (sizes / factors / _share(largest, factors)).sqrt().log2()
        steps = torch.where(read, steps - steps[read].mean(), 0.0)
        factors = factors * steps.exp2()
        if float(steps.abs().max()) < _ENOUGH:
            break
    if read.any():  # what nobody reads must not make the range wider
        unread = ~read & (sizes > 0)
        factors = torch.where(unread, sizes / (sizes / factors)[read].max(), factors)
    return factors.log2().round().clamp(-_MOST_EXPONENT, _MOST_EXPONENT).exp2()


def _share(largest: Tensor, factors: Tensor) -> Tensor:
    """Return how much of the scale of an output the weights of each channel take, at most."""
    taken = largest * factors.view(len(largest), 1, -1)
    return (taken / taken.amax(2, keepdim=True)).nan_to_num(0.0).amax(1).flatten()


def by_groups(layer: nn.Module, weight: Tensor) -> Tensor:
    """Return a weight of ``layer``, outputs first, as ``[groups, outputs, inputs, places]``."""
    groups = int(getattr(layer, "groups", 1))
    return weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)


def times(layer: nn.Module, weight: Tensor, factors: Tensor) -> Tensor:
    """Return a weight of ``layer``, outputs first, with each channel that it reads multiplied."""
    grouped = by_groups(layer, weight)
    by = factors.to(weight.dtype).view(len(grouped), 1, -1, 1)
    return (grouped * by).reshape(weight.shape)


def spatial_dims(layer: nn.Module) -> int:
    """Return how many dimensions come after that of the channels."""
    return weight_of(layer).dim() - 2
