"""How results are shown: by `print`, in a notebook, in a debugger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from lpot_lightning.machine.columns import shortened

Cells = Sequence[Sequence[str]]
_LONGEST = 120
_TABLE = "border-collapse: collapse; margin: 0.4em 0; color: inherit"
_CELL = "text-align: left; padding: 0.15em 1em 0.15em 0"
_LINE = "border-bottom: 1px solid rgba(128, 128, 128, 0.4)"
"""Colors of letters are the notebook's, so that its light and dark themes both fit."""


class ShownInShort:
    """A few lines for ``print``, one line as a part of others, a small table in notebooks."""

    def _in_short(self) -> list[str]:
        """Return a few lines, of which the first one says what came of it."""
        raise NotImplementedError

    def _grids(self) -> list[tuple[Cells, bool]]:
        """Return the tables of a notebook, each with whether its first row is a head."""
        raise NotImplementedError

    def __str__(self) -> str:
        """Return a few lines for people."""
        return "\n".join(self._in_short())

    def __repr__(self) -> str:
        """Return one line, however much it holds."""
        return f"<{type(self).__name__}: {shortened(self._in_short()[0], _LONGEST)}>"

    def _repr_html_(self) -> str:
        """Return small tables for a notebook."""
        first = escape(self._in_short()[0])
        tables = "".join(_table(rows, head) for rows, head in self._grids())
        return f"<div><p><strong>{first}</strong></p>{tables}</div>"


def _table(rows: Cells, head: bool) -> str:
    return f'<table style="{_TABLE}">{"".join(_rows(rows, head))}</table>'


def _rows(rows: Cells, head: bool) -> Iterator[str]:
    for number, row in enumerate(rows):
        is_head = head and number == 0
        cells = "".join(_cell(text, is_head or column == 0) for column, text in enumerate(row))
        yield f'<tr style="{_LINE if is_head else ""}">{cells}</tr>'


def _cell(text: str, is_name: bool) -> str:
    kind = "th" if is_name else "td"
    return f'<{kind} style="{_CELL}">{escape(text)}</{kind}>'
