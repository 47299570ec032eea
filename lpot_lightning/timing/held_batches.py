"""Batches of a benchmark, held in memory so that reading them is not timed."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from lpot_lightning.data.batches import Call, read_calls, samples_in
from lpot_lightning.timing.in_turns import to_cpu

MOST_BYTES = 2**28
"""More is not held: the first batches are shown again. Each process holds them once."""


def hold(loader: Iterable[Any], most: int | None, *, origin: str, seed: int) -> tuple[Call, ...]:
    """Return the first ``most`` batches of ``loader``.

    A last batch that is smaller is no measure of the others, and is left out.

    Args:
        loader: gives batches; one that shuffles does it by ``seed``.
        most: ``None`` for all.
        origin: what it is called, for people.
        seed: of random numbers, which are put back.

    Raises:
        DataError: if it gives none, or none that can be read.
    """
    taken: list[Call] = []
    size = 0
    with closing(read_calls(loader, origin=origin, seed=seed)) as found:
        for call in map(to_cpu, found):
            taken.append(call)
            size += _bytes_of(call)
            if len(taken) == most or size >= MOST_BYTES:
                break
    smaller = len(taken) > 1 and samples_in(taken[-1]) < samples_in(taken[-2])
    return tuple(taken[:-1] if smaller else taken)


def _bytes_of(call: Call) -> int:
    leaves = pytree.tree_leaves(tuple(call))
    return sum(one.nbytes for one in leaves if isinstance(one, Tensor))
