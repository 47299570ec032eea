"""Tables of 8 bits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lpot_lightning.quantization.kernels.arithmetic import step_sizes
from lpot_lightning.quantization.kernels.own_types import OwnTypes


class Int8Embedding(OwnTypes):
    """Rows of ``uint8``, each between its own least and greatest value; for size, not for speed.

    Args:
        values: ``uint8``, ``[rows, columns]``.
        scales: float32, one a row: the distance of two neighbours; or ``[rows, groups]``.
        least: float32, of the same shape: what 0 stands for.
        group_size: how many columns in a row have ends of their own; the last ones may be less.

    Example::

        table = Int8Embedding.of(nn.Embedding(100, 8).weight)
        table(torch.tensor([[3, 5]]).t())  # float32 [2, 1, 8]
    """

    values: Tensor
    scales: Tensor
    least: Tensor

    def __init__(
        self, values: Tensor, scales: Tensor, least: Tensor, group_size: int | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("values", values)
        self.register_buffer("scales", scales)
        self.register_buffer("least", least)
        self.group_size = group_size

    @classmethod
    def of(cls, weight: Tensor, group_size: int | None = None) -> Int8Embedding:
        """Return the table of the floats ``weight``, each row or group rounded by itself."""
        exact = weight.detach().float()
        groups = exact if group_size is None else _whole_groups(exact, group_size)
        least, greatest = groups.aminmax(dim=-1)
        scales = step_sizes(greatest - least, 255)
        columns = exact.shape[1]
        spread = [_of_columns(one, group_size, columns) for one in (least, scales)]
        steps = ((exact - spread[0]) / spread[1]).round().clamp_(0, 255)
        return cls(steps.to(torch.uint8), scales, least, group_size)

    @classmethod
    def like(cls, weight: Tensor, group_size: int | None = None) -> Int8Embedding:
        """Return what ``of`` does, without values."""
        rows, columns = weight.shape
        groups = () if group_size is None else (-(-columns // group_size),)
        values = torch.empty(weight.shape, dtype=torch.uint8)
        return cls(values, torch.empty(rows, *groups), torch.empty(rows, *groups), group_size)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the rows of ``ids``, which may have any shape and layout."""
        rows = F.embedding(ids, self.values).float()
        given = self.group_size, rows.shape[-1]
        least, scales = _of_columns(self.least[ids], *given), _of_columns(self.scales[ids], *given)
        return torch.addcmul(least, rows, scales)


def _whole_groups(exact: Tensor, group_size: int) -> Tensor:
    """Return rows in groups; the last value fills the last group, whose ends it does not move."""
    more = -exact.shape[1] % group_size
    filled = torch.cat([exact, exact[:, -1:].expand(-1, more)], 1)
    return filled.view(len(exact), -1, group_size)


def _of_columns(numbers: Tensor, group_size: int | None, columns: int) -> Tensor:
    """Return what rows or groups have as something that goes with each column."""
    if group_size is None:
        return numbers[..., None]
    return numbers.repeat_interleave(group_size, -1)[..., :columns]
