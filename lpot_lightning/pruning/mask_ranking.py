"""The lowest of many scores: exactly as many as asked for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def share_of(count: int, sparsity: float) -> int:
    """Return how many of ``count`` are to go: the nearest whole number.

    Example::

        share_of(10, 0.25)  # 3
    """
    return min(count, int(count * sparsity + 0.5))


def lowest(scores: Tensor, count: int) -> Tensor:
    """Return which ``count`` of ``scores`` are the lowest; of equal ones the first.

    Args:
        scores: of any shape, on any device.
        count: from 0 to the number of scores.

    Returns:
        a bool tensor of the same shape.
    """
    flat = scores.reshape(-1)
    if count <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    if count >= flat.numel():
        return torch.ones_like(scores, dtype=torch.bool)
    limit = torch.kthvalue(flat, count).values
    chosen, equal = flat < limit, flat == limit
    missing = count - int(chosen.sum())
    if missing < int(equal.sum()):
        equal &= equal.cumsum(0) <= missing
    return (chosen | equal).reshape(scores.shape)


def lowest_of_all(scores: Sequence[Tensor], count: int) -> list[Tensor]:
    """Return, for each tensor, which of its values are among the ``count`` lowest of all."""
    chosen = lowest(torch.cat([one.reshape(-1) for one in scores]), count)
    pieces = torch.split(chosen, [one.numel() for one in scores])
    return [piece.reshape(one.shape) for piece, one in zip(pieces, scores, strict=True)]


def lowest_in_rows(scores: Tensor, count: int) -> Tensor:
    """Return the ``count`` lowest of ``[rows, groups]``, from each row as many as from the others.

    What does not divide by the number of rows is taken, one each, where it costs least.
    """
    rows, groups = scores.shape
    each, rest = divmod(count, rows)
    places = scores.argsort(dim=1, stable=True)
    taken = torch.full((rows,), each, device=scores.device)
    if rest and each < groups:
        next_lowest = scores.gather(1, places[:, each : each + 1])[:, 0]
        taken += lowest(next_lowest, rest).long()
    rank = torch.arange(groups, device=scores.device)
    chosen = (rank < taken[:, None]).expand(rows, groups)
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, places, chosen)
