"""What the activations of training graphs range over, while the training goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lpot_lightning.errors import ArtifactError, DataError
from lpot_lightning.quantization.fx.observer import QParams

LOWEST, HIGHEST, REDUCED = 0, 255, 127
UNSEEN = "saw no training data, or none that was finite"
MOMENTUM = 0.1
"""Share of a new batch in the running range, as in BatchNorm.

Torch's ``averaging_constant`` is 0.01: a range is then hundreds of batches behind a model that
learns, cuts off what it has learned, and lets no gradient through there. A small BERT that learned
for 192 batches came to a loss of 0.61 with 0.01, and of 0.05 with 0.1.
"""
_STATE = {
    "low": torch.float32,
    "high": torch.float32,
    "scale": torch.float32,
    "zero_point": torch.int32,
}


@dataclass(frozen=True)
class TrainedRange:
    """The range of one activation when its training was over: it has one answer for all.

    Args:
        scale: of 8 bits.
        zero_point: of them.
        unusable: why int8 cannot hold what was seen; empty if it can.
    """

    scale: float
    zero_point: int
    unusable: str = ""

    def qparams(self, scheme: str, algorithm: str) -> QParams:
        """Return scale and zero point; they were learned for ``asym`` and ``minmax``."""
        return self.scale, self.zero_point


class Ranges:
    """The running ranges of all activations that one training looks at.

    They are four tensors with a place for each, so that to keep, send or restore them is one step,
    however many there are. The formulas are those of torch's ``MovingAverageMinMaxObserver``.

    Args:
        size: how many places there are.
        reduce_range: whether 7 bits are to be used of 8.

    Attributes:
        observing: whether what passes through in training changes the ranges.
    """

    def __init__(self, size: int, *, reduce_range: bool) -> None:
        self.reduce_range = reduce_range
        self.highest = REDUCED if reduce_range else HIGHEST
        self.observing = True
        self.seen = [False] * size
        self._hold(
            torch.full((size,), torch.inf),
            torch.full((size,), -torch.inf),
            torch.ones(size),
            torch.zeros(size, dtype=torch.int32),
        )

    def _hold(self, low: Tensor, high: Tensor, scale: Tensor, zero_point: Tensor) -> None:
        self.low, self.high, self.scale, self.zero_point = low, high, scale, zero_point
        self.device = low.device
        self.on = torch.ones(1, dtype=torch.int64, device=low.device)
        self.places = [
            (low[i : i + 1], high[i : i + 1], scale[i : i + 1], zero_point[i : i + 1])
            for i in range(len(low))
        ]
        self._last = [one.clone() for one in (low, high)]

    def __deepcopy__(self, memo: dict[int, object]) -> Ranges:
        """Return ranges of their own with the same values."""
        made = Ranges(len(self.seen), reduce_range=self.reduce_range)
        made.observing, made.seen = self.observing, list(self.seen)
        made._hold(*(one.clone() for one in self._all()))
        memo[id(self)] = made
        return made

    def _all(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.low, self.high, self.scale, self.zero_point

    def to(self, device: torch.device) -> None:
        """Move to where the activations are."""
        if device != self.device:
            self._hold(*(one.to(device) for one in self._all()))

    def end_batch(self, maximum: Callable[[Tensor], None] | None = None) -> None:
        """Make the ranges ready for the next batch, the same in all processes.

        A batch whose activations were not finite, as happens under fp16 until the loss scale has
        come down, is as if it had not been seen.

        Args:
            maximum: puts the greatest value of all processes into a tensor. A range is then what
                one process would have seen of all their batches together.
        """
        if not self.observing:
            return
        was_low, was_high = self._last
        fine = torch.isfinite(self.high - self.low)
        self.low.copy_(torch.where(fine, self.low, was_low))
        self.high.copy_(torch.where(fine, self.high, was_high))
        if maximum is not None:
            both = torch.cat((-self.low, self.high))
            maximum(both)
            self.low.copy_(-both[: len(self.low)])
            self.high.copy_(both[len(self.low) :])
            if not all(self.seen):
                self.seen = torch.isfinite(self.high).tolist()
        scale, zero_point = self._qparams()
        self.scale.copy_(scale)
        self.zero_point.copy_(zero_point)
        self._last = [self.low.clone(), self.high.clone()]

    def _qparams(self) -> tuple[Tensor, Tensor]:
        """Return scale and zero point as torch's observers compute them; 1 and 0 where unseen."""
        fine = torch.isfinite(self.high - self.low)
        low = torch.where(fine, self.low, 0.0).clamp_max(0)
        high = torch.where(fine, self.high, 0.0).clamp_min(0)
        least = torch.finfo(torch.float32).eps
        scale = ((high - low) / (self.highest - LOWEST)).clamp_min(least)
        zero_point = (LOWEST - torch.round(low / scale)).clamp(LOWEST, self.highest)
        return torch.where(fine, scale, 1.0), torch.where(fine, zero_point, 0.0).int()

    def state(self) -> dict[str, Tensor]:
        """Return all values as tensors on the CPU."""
        return {name: getattr(self, name).cpu().clone() for name in _STATE}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take the values that ``state`` gave.

        Raises:
            ArtifactError: if they are of other types or of another number.
        """
        check_ranges(state, len(self.seen))
        self._hold(*(state[name].to(self.device, copy=True) for name in _STATE))
        self.seen = torch.isfinite(self.high).tolist()


def check_ranges(state: Mapping[str, Tensor], size: int) -> None:
    """Raise an ``ArtifactError`` unless ``state`` holds the ranges of ``size`` activations."""
    for name, dtype in _STATE.items():
        value = state.get(name)
        if not isinstance(value, Tensor) or value.dtype != dtype or value.shape != (size,):
            came = f"{value.dtype}{list(value.shape)}" if isinstance(value, Tensor) else value
            raise ArtifactError(
                f"the trained ranges are damaged: `{name}` is {came}, it has to be {dtype}[{size}]"
            )


def trained_ranges(state: Mapping[str, Tensor]) -> list[TrainedRange]:
    """Return what ``Ranges.state`` gave, one by one.

    Raises:
        ArtifactError: if a scale is not finite and positive.
    """
    rows: Iterable[tuple[float, float, float, int]] = zip(
        *(state[name].tolist() for name in _STATE), strict=True
    )
    return [_checked(*row) for row in rows]


def _checked(low: float, high: float, scale: float, zero_point: int) -> TrainedRange:
    if low > high:
        return TrainedRange(1.0, 0, UNSEEN)
    if not (0 < scale < float("inf") and LOWEST <= zero_point <= HIGHEST):
        raise ArtifactError(
            f"the trained ranges are damaged: scale {scale}, zero point {zero_point}"
        )
    return TrainedRange(scale, zero_point)


def check_finite(ranges: Ranges) -> None:
    """Raise a ``DataError`` if the training went to NaN or infinity."""
    bad = (~torch.isfinite(ranges.scale)).nonzero().flatten().tolist()
    if bad:
        raise DataError(
            f"{len(bad)} of {len(ranges.seen)} activations are not finite after the training: look"
            " for a learning rate that is too high, or for NaN in the data"
        )
