"""What the inputs of int8 layers range over, while the training goes on."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from math import isfinite

import torch
from torch import Tensor, nn

from lpot_lightning.errors import ArtifactError, DataError
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.training.rounding import onto_grid

MOMENTUM = 0.1
"""Share of a new batch in the running range, as in BatchNorm.

Torch's ``averaging_constant`` is 0.01: a range is then hundreds of batches behind a model that
learns, cuts off what it has learned, and lets no gradient through there. A small BERT that learned
for 192 batches came to a loss of 0.61 with 0.01, and of 0.05 with 0.1.
"""
_LEAST = torch.finfo(torch.float32).eps
_STATE = {
    "low": torch.float32,
    "high": torch.float32,
    "scale": torch.float32,
    "zero_point": torch.int32,
}


class Ranges:
    """The running ranges of all inputs that one training looks at.

    They are four tensors with a place for each, so that to keep, send or restore them is one step,
    however many there are. A range is that of the first batch, then a moving average. Until a batch
    has come a place has the grid of the calibration, where it is known: a scale of 0 is none.

    What several layers read, as query, key and value do, is rounded once: layers that have seen the
    same tensors since the beginning have the same range.

    Args:
        starts: of each place, the grid of the calibration.
        bits: 8, or 7 where kernels saturate.

    Attributes:
        observing: whether what passes changes the ranges.
        follows: a module in whose training mode alone they learn; ``None`` for any mode.
        only: the places that learn; ``None`` for all.
    """

    def __init__(self, starts: list[Grid | None], *, bits: int) -> None:
        self.highest = 2**bits - 1
        self.observing = True
        self.follows: nn.Module | None = None
        self.only: set[int] | None = None
        size = len(starts)
        self.seen = [False] * size
        scales = [0.0 if one is None else one.scale for one in starts]
        zero_points = [0 if one is None else one.zero_point for one in starts]
        self._hold(
            torch.full((size,), torch.inf),
            torch.full((size,), -torch.inf),
            torch.tensor(scales, dtype=torch.float32),
            torch.tensor(zero_points, dtype=torch.int32),
        )
        self._pasts = [0] * size
        self._agree_on_pasts()

    def _hold(self, low: Tensor, high: Tensor, scale: Tensor, zero_point: Tensor) -> None:
        self.low, self.high, self.scale, self.zero_point = low, high, scale, zero_point
        self.device = low.device
        self._on = torch.ones(1, dtype=torch.int64, device=low.device)
        self._places = [
            (low[i : i + 1], high[i : i + 1], scale[i : i + 1], zero_point[i : i + 1])
            for i in range(len(low))
        ]
        self._last = [low.clone(), high.clone()]
        self._known = (scale > 0).tolist()
        self._rounded: _Rounded | None = None

    def _agree_on_pasts(self) -> None:
        """Let places with equal values have the same past."""
        rows = list(zip(*(one.tolist() for one in self._all()), strict=True))
        first = {row: place for place, row in reversed(list(enumerate(rows)))}
        self._pasts = [first[row] for row in rows]
        self._numbers = count(len(rows))

    def __deepcopy__(self, memo: dict[int, object]) -> Ranges:
        """Return ranges of their own with the same values."""
        made = Ranges([None] * len(self.seen), bits=self.highest.bit_length())
        memo[id(self)] = made
        made.observing, made.seen, made.only = self.observing, list(self.seen), self.only
        follows = memo.get(id(self.follows), self.follows)
        made.follows = follows if isinstance(follows, nn.Module) else None
        made._hold(*(one.clone() for one in self._all()))
        made._agree_on_pasts()
        return made

    def _all(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.low, self.high, self.scale, self.zero_point

    def _to(self, device: torch.device) -> None:
        if device != self.device:
            self._hold(*(one.to(device) for one in self._all()))

    @property
    def learns(self) -> bool:
        """Whether what passes now is a training batch, and no repetition of it for a backward."""
        if not self.observing or torch._C._current_graph_task_id() != -1:
            return False
        return self.follows is None or self.follows.training

    def rounded(self, place: int, x: Tensor) -> Tensor:
        """Return ``x`` on the grid of ``place``, which learns if it is to.

        It is rounded in float32, whatever precision surrounds it. What is no float is let through,
        and so is all where nothing is known yet.
        """
        if not x.is_floating_point() or not x.numel():
            return x
        self._to(x.device)
        learns = self.learns and (self.only is None or place in self.only)
        event = None if x.is_inference() else (x._version, learns, torch.is_grad_enabled())
        if event is not None and self._rounded is not None:
            again = self._rounded.of(x, event, self._pasts[place])
            if again is not None:
                self._take_over(place, self._rounded)
                return again
        before = self._pasts[place]
        whole = x if x.dtype is torch.float32 else x.float()
        if learns:
            self._pasts[place] = next(self._numbers)
        found = self._learned(place, whole) if learns else self._on_grid(place, whole)
        found = found if x.dtype is torch.float32 else found.to(x.dtype)
        if event is not None:
            self._rounded = _Rounded(
                x=weakref.ref(x),
                found=weakref.ref(found),
                event=event,
                before=before,
                after=self._pasts[place],
                place=place,
            )
        return found

    def on_grid(self, place: int, x: Tensor) -> Tensor:
        """Return ``x`` on the grid that ``place`` has now, as ``rounded`` does."""
        whole = x if x.dtype is torch.float32 else x.float()
        return self._on_grid(place, whole).to(x.dtype)

    def _take_over(self, place: int, known: _Rounded) -> None:
        """Let a place have the range of another that has the same past."""
        if self._pasts[place] == known.after:
            return
        for mine, other in zip(self._places[place], self._places[known.place], strict=True):
            mine.copy_(other)
        self.seen[place], self._known[place] = self.seen[known.place], self._known[known.place]
        self._pasts[place] = known.after

    def take_over(self, other: Ranges, places: Mapping[int, int]) -> None:
        """Take the values that places have in ``other``.

        Args:
            other: has learned them; it is left as it is.
            places: which place here is which place there.
        """
        self._to(other.device)
        for mine, theirs in zip(self._all(), other._all(), strict=True):
            for here, there in places.items():
                mine[here] = theirs[there]
        for here, there in places.items():
            self.seen[here] = other.seen[there]
        self._hold(*self._all())
        self._agree_on_pasts()

    def _on_grid(self, place: int, x: Tensor) -> Tensor:
        if not self._known[place]:
            return x
        _, _, scale, zero_point = self._places[place]
        if x.device.type == "cpu":
            return onto_grid(x, scale.item(), int(zero_point.item()), self.highest)
        return torch.fake_quantize_per_tensor_affine(x, scale, zero_point, 0, self.highest)

    def _learned(self, place: int, x: Tensor) -> Tensor:
        self.seen[place] = True
        if x.device.type == "cpu":
            self._learn(place, *(one.item() for one in torch.aminmax(x.detach())))
            return self._on_grid(place, x)
        self._known[place] = True
        return torch.fused_moving_avg_obs_fake_quant(
            x, self._on, self._on, *self._places[place], MOMENTUM, 0, self.highest, -1
        )

    def _learn(self, place: int, least: float, most: float) -> None:
        low, high, scale, zero_point = self._places[place]
        if not isfinite(most - least):
            return  # as under fp16 until the loss scale has come down
        known_low, known_high = low.item(), high.item()
        if known_low <= known_high:
            least = known_low + MOMENTUM * (least - known_low)
            most = known_high + MOMENTUM * (most - known_high)
        low.fill_(least)
        high.fill_(most)
        least, most = min(low.item(), 0.0), max(high.item(), 0.0)
        scale.fill_(max((most - least) / self.highest, _LEAST))
        zero_point.fill_(min(self.highest, max(0, -round(least / scale.item()))))
        self._known[place] = True

    def end_batch(self, maximum: Callable[[Tensor], None] | None = None) -> None:
        """Make the ranges ready for the next batch, the same in all processes.

        A batch whose activations were not finite, as happens under fp16 until the loss scale has
        come down, is as if it had not been seen.

        Args:
            maximum: puts the greatest value of all processes into a tensor. A range is then what
                one process would have seen of all their batches together.
        """
        self._rounded = None
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
        if maximum is not None:
            self._known = (self.scale > 0).tolist()
            self._agree_on_pasts()
        self._last = [self.low.clone(), self.high.clone()]

    def _qparams(self) -> tuple[Tensor, Tensor]:
        """Return scale and zero point by the formula of ``Grid.over``; as before where unseen."""
        fine = torch.isfinite(self.high - self.low)
        low = torch.where(fine, self.low, 0.0).clamp_max(0).double()
        high = torch.where(fine, self.high, 0.0).clamp_min(0).double()
        scale = ((high - low) / self.highest).clamp_min(_LEAST).float()
        zero_point = torch.round(-low / scale.double()).clamp(0, self.highest).int()
        return (
            torch.where(fine, scale, self.scale),
            torch.where(fine, zero_point, self.zero_point),
        )

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
        self._agree_on_pasts()

    def check_finite(self) -> None:
        """Raise a ``DataError`` if the training went to NaN or infinity.

        What never was finite has no range. Single ones may have none: a mask adds infinity.
        """
        if any(self.seen) and not bool(torch.isfinite(self.high - self.low).any()):
            raise DataError(
                f"{sum(self.seen)} of {len(self.seen)} activations are not finite after the"
                " training: look for a learning rate that is too high, or for NaN in the data"
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class _Rounded:
    """What was rounded last, while somebody holds it.

    Args:
        x: what was given.
        found: what came of it.
        event: the version of ``x``, and how it was rounded.
        before: the past of the place until then; so is ``after`` the one from then on.
        place: whose range it was.
    """

    x: weakref.ref[Tensor]
    found: weakref.ref[Tensor]
    event: tuple[int, bool, bool]
    before: int
    after: int
    place: int

    def of(self, x: Tensor, event: tuple[int, bool, bool], past: int) -> Tensor | None:
        """Return what a place with ``past`` makes of ``x``, if that is known."""
        same = self.x() is x and self.event == event and past == self.before
        return self.found() if same else None


def check_ranges(state: Mapping[str, Tensor], size: int) -> None:
    """Raise an ``ArtifactError`` unless ``state`` holds the ranges of ``size`` inputs."""
    for name, dtype in _STATE.items():
        value = state.get(name)
        if not isinstance(value, Tensor) or value.dtype != dtype or value.shape != (size,):
            came = f"{value.dtype}{list(value.shape)}" if isinstance(value, Tensor) else value
            raise ArtifactError(
                f"the trained ranges are damaged: `{name}` is {came}, it has to be {dtype}[{size}]"
            )


def grids_of(state: Mapping[str, Tensor], *, bits: int) -> list[Grid | None]:
    """Return the grids that ``Ranges.state`` has, ``None`` where nothing was known.

    Raises:
        ArtifactError: if they are no grids.
    """
    highest = 2**bits - 1
    rows = zip(state["scale"].tolist(), state["zero_point"].tolist(), strict=True)
    return [_grid(scale, zero_point, highest) for scale, zero_point in rows]


def _grid(scale: float, zero_point: int, highest: int) -> Grid | None:
    if scale == 0:
        return None
    if not (0 < scale < float("inf") and 0 <= zero_point <= highest):
        raise ArtifactError(
            f"the trained ranges are damaged: scale {scale}, zero point {zero_point}"
        )
    return Grid(scale, zero_point, 0, highest)
