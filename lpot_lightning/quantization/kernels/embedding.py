"""Tables of 8 bits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Int8Embedding(nn.Module):
    """Rows of ``uint8``, each between its own least and greatest value; for size, not for speed.

    Args:
        values: ``uint8``, ``[rows, columns]``.
        scales: float32, one a row: the distance of two neighbours.
        least: float32, one a row: what 0 stands for.

    Example::

        table = Int8Embedding.of(nn.Embedding(100, 8).weight)
        table(torch.tensor([[3, 5]]).t())  # float32 [2, 1, 8]
    """

    values: Tensor
    scales: Tensor
    least: Tensor

    def __init__(self, values: Tensor, scales: Tensor, least: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", values)
        self.register_buffer("scales", scales)
        self.register_buffer("least", least)

    @classmethod
    def of(cls, weight: Tensor) -> Int8Embedding:
        """Return the table of the floats ``weight``, each row rounded by itself."""
        exact = weight.detach().float()
        least, greatest = exact.aminmax(dim=1)
        span = greatest - least
        scales = torch.where(span > 0, span / 255, torch.ones_like(span))
        steps = ((exact - least[:, None]) / scales[:, None]).round().clamp_(0, 255)
        return cls(steps.to(torch.uint8), scales, least)

    @classmethod
    def like(cls, weight: Tensor) -> Int8Embedding:
        """Return what ``of`` does, without values."""
        values = torch.empty(weight.shape, dtype=torch.uint8)
        return cls(values, torch.empty(len(weight)), torch.empty(len(weight)))

    def forward(self, ids: Tensor) -> Tensor:
        """Return the rows of ``ids``, which may have any shape and layout."""
        rows = F.embedding(ids, self.values).float()
        return torch.addcmul(self.least[ids][..., None], rows, self.scales[ids][..., None])
