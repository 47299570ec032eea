"""Which real values the integers of a tensor stand for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import isfinite

import torch
from torch import Tensor

from lpot_lightning.errors import QuantizationError
from lpot_lightning.quantization.graph.tracing import is_private, is_tracing, paused
from lpot_lightning.quantization.kernels.recorded import integers, integers_op

_LEAST_SCALE = 2.0**-100
"""Below it the reciprocal of a scale, by which kernels multiply, leaves float32."""

_WHOLE = 12582912.0
"""1.5 * 2^23: its neighbours in float32 are the whole numbers around it, and its last byte is 0."""

_LONG = 100_000


@dataclass(frozen=True)
class Grid:
    """Integers ``q`` that stand for ``(q - zero_point) * scale``.

    Args:
        scale: the distance of two neighbours.
        zero_point: the integer that stands for 0, which every grid holds.
        low: the least integer; below 0 the tensor is ``int8``, else ``uint8``.
        high: the greatest integer; 127 leaves ``uint8`` 7 bits.

    Raises:
        QuantizationError: if these are no grid of 8 bits that holds 0.

    Example::

        Grid.over(-1.0, 3.0).quantize(torch.tensor([0.0, 3.0]))  # uint8: [64, 255]
    """

    scale: float
    zero_point: int = 0
    low: int = 0
    high: int = 255

    def __post_init__(self) -> None:
        least, most = (-128, 127) if self.low < 0 else (0, 255)
        fits = least <= self.low <= self.zero_point <= self.high <= most and self.low < self.high
        if not fits or not isfinite(self.scale) or self.scale < _LEAST_SCALE:
            raise QuantizationError(
                f"{self} is no grid of 8 bits: allowed: a finite `scale` above 0, and `low` up to"
                " `zero_point` up to `high` in 0..255 or -128..127"
            )

    @classmethod
    def over(cls, least: float, most: float, *, low: int = 0, high: int = 255) -> Grid:
        """Return the grid that covers ``least`` to ``most``, and 0, with its zero point rounded.

        The formula is that of Jacob et al., 2018 (arXiv:1712.05877), section 3.
        """
        least, most = min(least, 0.0), max(most, 0.0)
        scale = max((most - least) / (high - low), _LEAST_SCALE)
        return cls(scale, min(high, max(low, round(low - least / scale))), low, high)

    @classmethod
    def symmetric(cls, most: float) -> Grid:
        """Return the signed grid of -127 to 127 that covers ``-most`` to ``most``."""
        return cls(max(abs(most) / 127, _LEAST_SCALE), 0, -127, 127)

    def __str__(self) -> str:
        """Show it in short."""
        return f"{self.low}..{self.high} * {self.scale:.4g} around {self.zero_point}"

    @property
    def dtype(self) -> torch.dtype:
        """Of a tensor on this grid."""
        return torch.int8 if self.low < 0 else torch.uint8

    def quantize(self, values: Tensor) -> Tensor:
        """Return the integers nearest to ``values``, ties to even; values beyond are clipped.

        A float32 between 2^23 and 2^24 is a whole number whose last bits are its last byte: so an
        addition rounds, and the byte is taken from the bits.
        """
        _check_floats(values)
        return self._held(torch.add(self._zero, values.float(), alpha=1.0 / self.scale))

    def quantize_product(self, one: Tensor, other: Tensor) -> Tensor:
        """Return what ``quantize`` makes of ``one * other``, in a pass less.

        Where the product is half way between two integers, but for its last bit, it may be the
        other one of them.
        """
        return self._held(torch.addcmul(self._zero, one, other, value=1.0 / self.scale))

    def quantize_divided(self, values: Tensor, factors: Tensor) -> Tensor:
        """Return what ``quantize`` makes of ``values / factors``, in a pass less.

        Args:
            values: floats.
            factors: powers of two, so that a quotient is exact.
        """
        _check_floats(values)
        steps = torch.addcdiv(self._zero, values.float(), factors, value=1.0 / self.scale)
        return self._held(steps)

    def quantize_sum(self, integers: Tensor, values: Tensor) -> Tensor:
        """Return what ``quantize`` makes of ``dequantize(integers) + values``, in less passes."""
        steps = integers.to(torch.float32).add_(_WHOLE)
        return self._held(steps.add_(values, alpha=1.0 / self.scale))

    @property
    def _zero(self) -> Tensor:
        value = _WHOLE + self.zero_point
        return torch.scalar_tensor(value) if is_tracing() else _scalar(value)

    def _held(self, steps: Tensor) -> Tensor:
        """Return the integers of numbers that lie around ``_WHOLE``; it writes to them."""
        steps.clamp_(_WHOLE + self.low, _WHOLE + self.high)
        if is_private() and _is_long(steps):
            return integers_op()[0](steps, self.dtype)
        return steps.sub_(_WHOLE).to(self.dtype) if is_tracing() else integers(steps, self.dtype)

    def dequantize(self, integers: Tensor) -> Tensor:
        """Return the float32 values that ``integers`` stand for."""
        return integers.to(torch.float32).sub_(self.zero_point).mul_(self.scale)


@cache
def _scalar(value: float) -> Tensor:
    """Return ``value`` as a tensor that all share: to make one takes as long as a small kernel."""
    with torch.inference_mode(False):
        return torch.scalar_tensor(value, dtype=torch.float32, device="cpu")


def _is_long(values: Tensor) -> bool:
    """Whether a pass over ``values`` takes longer than to call Python for them."""
    with paused():
        return values.numel() > _LONG


def _check_floats(values: Tensor) -> None:
    if not values.is_floating_point():
        kind = str(values.dtype).removeprefix("torch.")
        raise RuntimeError(f"an int8 layer got {kind}; it quantizes floats by itself")
