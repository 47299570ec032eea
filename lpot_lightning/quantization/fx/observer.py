"""What the calibration data looked like at one point of a graph."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.ao.quantization.observer import HistogramObserver, ObserverBase

from lpot_lightning.errors import DataError

QParams = tuple[float, int]
Statistics = tuple[float, float, list[float], int, str]
"""Lowest and highest value, histogram between them, batches, and why int8 cannot hold it."""
CUT = 1e-4
"""Share of the values that ``percentile`` cuts off at each end.

8 bits have 256 steps, so a range that is twice as wide costs four times the squared error of all
values; fewer outliers than this cannot make up for it unless they are far out, which ``kl`` sees.
99.99 % did best, with 99.999 %, over the networks of Wu et al., Integer Quantization for Deep
Learning Inference (2020), table 5.
"""
_SCHEMES = {"asym": torch.per_tensor_affine, "sym": torch.per_tensor_symmetric}


class RangeObserver(HistogramObserver):
    """Watches a tensor once and answers for every scheme and algorithm afterwards.

    ``minmax`` is the observed range; ``kl`` is torch's search for the range with the least
    squared error over the histogram, which LPOT's ``kl`` also stood for on PyTorch. ``percentile``
    leaves out the outermost values at each end, as many as ``CUT`` says.
    """

    def __init__(self, reduce_range: bool = False) -> None:
        super().__init__(
            dtype=torch.quint8, qscheme=torch.per_tensor_affine, reduce_range=reduce_range
        )
        self.awake = True
        self.batches = 0
        self.refused = ""
        self._known: dict[tuple[str, str], QParams] = {}

    def forward(self, x_orig: Tensor) -> Tensor:
        """Take in one batch; what int8 cannot hold is noted and let through."""
        if not self.awake:
            return x_orig
        if not isinstance(x_orig, Tensor):
            self.refused = "works on a list of tensors that is made elsewhere"
        elif not x_orig.is_floating_point():
            self.refused = "works on integers"
        elif x_orig.numel():
            self._take_in(x_orig)
        return x_orig

    def _take_in(self, x: Tensor) -> None:
        low, high = torch.aminmax(x.detach())
        if low == -math.inf and high < math.inf:  # how attention masks what is not to be seen
            self.refused = "works on minus infinity, as masks do"
            return
        if not torch.isfinite(high - low):
            raise DataError(
                f"calibration batch {self.batches}: an activation is not finite"
                f" (from {float(low)} to {float(high)}); look for NaN, infinity or overflow in"
                " the data or the weights"
            )
        self.batches += 1
        super().forward(x)

    def statistics(self) -> Statistics:
        """Return what was seen, to be merged with what the same observer saw elsewhere."""
        return (
            float(self.min_val),
            float(self.max_val),
            self.histogram.tolist(),
            self.batches,
            self.refused,
        )

    def merge(self, seen: Iterable[Statistics]) -> None:
        """Take all of ``seen`` as if it had been seen here, and only that."""
        seen = list(seen)
        self.batches = sum(batches for *_, batches, _ in seen)
        self.refused = next((refused for *_, refused in seen if refused), "")
        filled = [one for one in seen if one[3]]
        if not filled:
            return
        low = torch.tensor(min(low for low, *_ in filled))
        high = torch.tensor(max(high for _, high, *_ in filled))
        histogram = torch.zeros(self.bins)
        for own_low, own_high, own, *_ in filled:
            histogram = self._combine_histograms(
                torch.tensor(own), torch.tensor(own_low), torch.tensor(own_high),
                histogram, low, high,
            )  # fmt: skip
        self.min_val.resize_(()).copy_(low)
        self.max_val.resize_(()).copy_(high)
        self.histogram.resize_(self.bins).copy_(histogram)

    @property
    def unusable(self) -> str:
        """Why int8 cannot hold what was seen; empty if it can."""
        return self.refused or ("" if self.batches else "saw no calibration data")

    def qparams(self, scheme: str, algorithm: str) -> QParams:
        """Return scale and zero point for a scheme, ``asym`` or ``sym``, and an algorithm."""
        wish = (scheme, algorithm)
        if wish not in self._known:
            self._known[wish] = self._search(scheme, algorithm)
        return self._known[wish]

    def _search(self, scheme: str, algorithm: str) -> QParams:
        low, high = self.min_val, self.max_val
        if algorithm == "kl":
            low, high = self._non_linear_param_search()
        elif algorithm == "percentile":
            low, high = self._without_tails()
        self.qscheme = _SCHEMES[scheme]
        scale, zero_point = self._calculate_qparams(low, high)
        return float(scale), int(zero_point)

    def _without_tails(self) -> tuple[Tensor, Tensor]:
        """Return the ends of the outermost bins that have ``CUT`` of the values up to them."""
        share = self.histogram.double().cumsum(0) / self.histogram.sum()
        first = int((share > CUT).nonzero()[0])
        last = int((share < 1 - CUT).sum())
        width = (self.max_val - self.min_val) / self.bins
        return self.min_val + first * width, self.min_val + min(last + 1, self.bins) * width


class SettledObserver(ObserverBase):
    """Stands where a ``RangeObserver`` stood and gives the chosen scale and zero point."""

    def __init__(self, scale: float = 1.0, zero_point: int = 0) -> None:
        super().__init__(dtype=torch.quint8, is_dynamic=False)
        self.qscheme = torch.per_tensor_affine
        self.quant_min, self.quant_max = 0, 255
        self.scale, self.zero_point = scale, zero_point

    def forward(self, x: Tensor) -> Tensor:
        """Let the tensor through."""
        return x

    def calculate_qparams(self, **_: object) -> tuple[Tensor, Tensor]:
        """Return what was chosen, in the form that torch's convert reads."""
        return torch.tensor([self.scale]), torch.tensor([self.zero_point])
