"""Few of many combinations, in which each value still meets each value of the others."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

Place = tuple[int, int]
"""A dimension, and one of its values, by their numbers."""


def all_pairs(*dimensions: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Yield combinations until each two values of two dimensions were in one of them."""
    for row in _rows([len(one) for one in dimensions]):
        yield tuple(one[value] for one, value in zip(dimensions, row, strict=True))


def paired(*dimensions: Sequence[Any]) -> list[Any]:
    """Return all combinations for `parametrize`; those that no pair needs are for `make soak`."""
    plain = set(_rows([len(one) for one in dimensions]))
    return [
        pytest.param(
            *(one[value] for one, value in zip(dimensions, row, strict=True)),
            marks=[] if row in plain else [pytest.mark.soak],
        )
        for row in itertools.product(*(range(len(one)) for one in dimensions))
    ]


def _rows(sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    places = [[(number, value) for value in range(size)] for number, size in enumerate(sizes)]
    if len(places) < 2:
        yield from itertools.product(*map(range, sizes))
        return
    left = dict.fromkeys(
        pair
        for one, other in itertools.combinations(places, 2)
        for pair in itertools.product(one, other)
    )
    while left:
        row = dict(next(iter(left)))
        for number, choice in enumerate(places):
            if number not in row:
                row |= [max(choice, key=lambda place: _new(place, row, left))]
        for pair in itertools.combinations(sorted(row.items()), 2):
            left.pop(pair, None)
        yield tuple(value for _, value in sorted(row.items()))


def _new(
    place: Place, row: dict[int, int], left: dict[tuple[Place, Place], None]
) -> tuple[int, int]:
    """Return in how many pairs that are left a place is with those of the row, and with any."""
    with_row = sum((min(place, one), max(place, one)) in left for one in row.items())
    return with_row, sum(place in pair for pair in left)
