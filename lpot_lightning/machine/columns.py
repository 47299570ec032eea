"""Rows of text as columns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest


def aligned(rows: Sequence[Sequence[str]], first: int = 0) -> str:
    """Return rows as columns; the first one is at least ``first`` wide.

    Example::

        aligned([["op", "dtype"], ["net.0", "int8"]])
    """
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    widths[0] = max(widths[0], first)
    lines = ("  ".join(map(str.ljust, row, widths)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
