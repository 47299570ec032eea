"""Rows of text as columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import zip_longest


def aligned(rows: Sequence[Sequence[str]], first: int = 0, right: Collection[int] = ()) -> str:
    """Return rows as columns; the first one is at least ``first`` wide.

    Args:
        rows: of cells; not all of them need to have all columns.
        first: the least width of the first column.
        right: the numbers of columns, counted from 0, whose cells stand at their right.

    Example::

        aligned([["op", "dtype"], ["net.0", "int8"]])
    """
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    widths[0] = max(widths[0], first)
    return "\n".join(_line(row, widths, right) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int], right: Collection[int]) -> str:
    cells = enumerate(zip(row, widths, strict=False))
    placed = (c.rjust(width) if n in right else c.ljust(width) for n, (c, width) in cells)
    return "  ".join(placed).rstrip()
