"""Rows of text as columns that fit the terminal."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from itertools import zip_longest

USUAL = 80
"""Columns of a terminal, where there is none to ask."""
_NARROWEST = 40
_GAP = 2
_READABLE_TEXT, _READABLE_NAME, _LEAST = 24, 20, 8
"""To how many columns text is wrapped, and names are shortened, before anything else is."""

Widths = list[int]


def terminal_width() -> int:
    """Return how wide the terminal is, or ``COLUMNS`` says; 80 where the output goes elsewhere."""
    return max(_NARROWEST, shutil.get_terminal_size((USUAL, 24)).columns)


def aligned(
    rows: Sequence[Sequence[str]],
    first: int = 0,
    right: Collection[int] = (),
    width: int | None = None,
) -> str:
    """Return rows as columns; no line is wider than ``width``.

    Where they are too wide text goes on in the next line, and names are shortened in the middle.

    Args:
        rows: of cells; not all of them need to have all columns.
        first: the least width of the first column.
        right: the numbers of columns, counted from 0, whose cells stand at their right.
        width: by default that of the terminal.

    Example::

        aligned([["op", "dtype"], ["net.0", "int8"]])
    """
    rows = [[on_one_line(str(cell)) for cell in row] for row in rows]
    columns = [list(one) for one in zip_longest(*rows, fillvalue="")]
    widths = _natural(columns, first)
    fitting = _fitted(columns, widths, terminal_width() if width is None else width)
    return "\n".join(line for row in rows for line in _lines(row, fitting, right))


def in_blocks(
    rows: Sequence[Sequence[str]],
    first: int = 0,
    *,
    names: int = 1,
    together: int = 1,
    width: int | None = None,
) -> str:
    """Return rows as ``aligned`` does; columns that do not fit follow below the others.

    Args:
        rows: of cells; not all of them need to have all columns.
        first: the least width of the first column.
        names: how many columns each block begins with.
        together: how many of the others are not parted.
        width: by default that of the terminal.
    """
    most = terminal_width() if width is None else width
    rows = [[on_one_line(str(cell)) for cell in row] for row in rows]
    columns = [list(one) for one in zip_longest(*rows, fillvalue="")]
    widths = _natural(columns, first)
    blocks: list[list[int]] = []
    for begin in range(names, len(widths), together):
        group = list(range(begin, min(begin + together, len(widths))))
        if blocks and _total([widths[n] for n in (*range(names), *blocks[-1], *group)]) <= most:
            blocks[-1] += group
        else:
            blocks.append(group)
    parts = ([*columns[:names], *(columns[n] for n in block)] for block in blocks)
    return "\n\n".join(aligned([*zip(*part, strict=True)], first, width=most) for part in parts)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def on_one_line(text: str) -> str:
    """Return a name as it is, but for what would end its line or move the cursor, which is escaped.

    Example::

        on_one_line("first\\nsecond")  # a backslash and an n stand between the words
    """
    if text.isprintable():
        return text
    return "".join(
        one.encode("unicode_escape").decode()
        if unicodedata.category(one) in ("Cc", "Zl", "Zp")
        else one
        for one in text
    )


def shortened(text: str, most: int) -> str:
    """Return ``text`` without its middle where it is wider than ``most`` columns."""
    if wide(text) <= most:
        return text
    left, right = "", ""
    for begin, end in zip(text, reversed(text), strict=True):
        if wide(f"{left}{begin}…{right}") > most:
            break
        left += begin
        if wide(f"{left}…{end}{right}") > most:
            break
        right = end + right
    return f"{left}…{right}"


def wrapped(text: str, width: int, *, code: bool = False) -> list[str]:
    """Return ``text`` in lines of at most ``width`` columns.

    It goes on in the next line between words, and behind a ``/``; what is too long for a line is
    shortened in the middle.

    Args:
        text: words.
        width: of a line.
        code: whether what stands in backticks is to be copied: words of it are neither parted nor
            shortened, and may be wider than a line.
    """
    lines = [""]
    for gap, piece, is_code in _pieces(text, width, code):
        if wide(f"{lines[-1]}{gap}{piece}") <= width:
            lines[-1] += f"{gap}{piece}"
            continue
        lines.append(piece if is_code else shortened(piece, width))
        if lines[0] == "":
            del lines[0]
    return lines


def hanging(text: str, first: str = "", then: str = "  ", width: int | None = None) -> str:
    """Return ``text`` in lines that fit the terminal, but for words in backticks that are wider.

    Args:
        text: words.
        first: what the first line begins with.
        then: what the others begin with.
        width: by default that of the terminal.
    """
    most = terminal_width() if width is None else width
    lines = wrapped(text, most - max(wide(first), wide(then)), code=True)
    return "\n".join(f"{then if number else first}{line}" for number, line in enumerate(lines))


def wide(text: str) -> int:
    """Return how many columns a terminal takes for ``text``, by Unicode's East Asian widths."""
    if text.isascii():
        return len(text)
    return sum(map(_wide, text))


def _wide(letter: str) -> int:
    if unicodedata.combining(letter) or unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in ("W", "F") else 1


def _pieces(text: str, width: int, code: bool) -> Iterator[tuple[str, str, bool]]:
    """Yield what stays in one line, each with the gap before it, and whether it is code."""
    ticks = 0
    for number, word in enumerate(text.split()):
        gap = " " if number else ""
        is_code = code and (ticks % 2 == 1 or "`" in word)
        ticks += word.count("`")
        if is_code or wide(word) <= width or "/" not in word:
            yield gap, word, is_code
            continue
        *folders, last = word.split("/")
        for part in (*(f"{one}/" for one in folders), last):
            yield gap, part, False
            gap = ""


def _natural(columns: Sequence[Sequence[str]], first: int) -> Widths:
    widths = [max(map(wide, column)) for column in columns]
    widths[0] = max(widths[0], first)
    return widths


def _fitted(columns: Sequence[Sequence[str]], widths: Widths, most: int) -> Widths:
    """Return widths of columns that fit: text gives way first, then names, then all."""
    texts = [any(" " in cell for cell in column[1:]) for column in columns]
    words = [max(_longest_word(cell) for cell in column) for column in columns]
    readable = [max(_READABLE_TEXT, word) for word in words]
    for floors in (
        [low if text else one for low, text, one in zip(readable, texts, widths, strict=True)],
        [low if text else _READABLE_NAME for low, text in zip(readable, texts, strict=True)],
        [min(word, _READABLE_NAME) for word in words],
        [_LEAST] * len(words),
    ):
        widths = _narrowed(widths, floors, most)
    return widths


def _narrowed(widths: Widths, floors: Sequence[int], most: int) -> Widths:
    """Take from the column that has most to give, again and again."""
    found = list(widths)
    while _total(found) > most:
        spare = [width - floor for width, floor in zip(found, floors, strict=True)]
        if max(spare) <= 0:
            break
        found[spare.index(max(spare))] -= 1
    return found


def _longest_word(text: str) -> int:
    return max(map(wide, text.split()), default=0)


def _lines(row: Sequence[str], widths: Widths, right: Collection[int]) -> Iterator[str]:
    cells = [_in_cell(str(cell), width) for cell, width in zip(row, widths, strict=False)]
    for parts in zip_longest(*cells, fillvalue=""):
        placed = (_placed(one, widths[n], n in right) for n, one in enumerate(parts))
        yield (" " * _GAP).join(placed).rstrip()


def _in_cell(cell: str, width: int) -> list[str]:
    return [cell] if wide(cell) <= width else wrapped(cell, width)


def _placed(text: str, width: int, at_right: bool) -> str:
    space = " " * (width - wide(text))
    return f"{space}{text}" if at_right else f"{text}{space}"
