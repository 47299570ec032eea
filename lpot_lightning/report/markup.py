"""HTML of texts that nobody trusts."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from lpot_lightning.tuning.in_words import THE_MODEL

_VOID = {"meta", "br", "wbr"}
_LONGEST = 160
"""Characters of a name: what is longer is shortened in its middle."""
_SHORT = 30
"""Those of a name that tables do not break."""


class Markup(str):
    """Text that is HTML already; every other text is escaped."""

    __slots__ = ()


Content = str | Iterable["Content"] | None


def tag(name: str, /, *inside: Content, **attributes: Any) -> Markup:
    """Return an element.

    Args:
        name: of the element.
        inside: texts, which are escaped, elements, or several of them; ``None`` is nothing.
        attributes: ``class_`` is ``class``, ``data_v`` is ``data-v``; ``None`` and ``False`` leave
            one out, ``True`` has no value.

    Example::

        tag("p", "1 < 2", class_="note")  # <p class="note">1 &lt; 2</p>
    """
    given = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{joined(inside)}</{name}>")


def _attribute(key: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value), quote=True)}"'


def joined(parts: Content) -> Markup:
    """Return texts and elements as one."""
    if parts is None:
        return Markup()
    if isinstance(parts, Markup):
        return parts
    if isinstance(parts, str):
        return Markup(escape(parts, quote=False))
    return Markup("".join(map(joined, parts)))


def code(name: str) -> Markup:
    """Return a name as code; a long one may be broken after each dot."""
    if len(name) <= _SHORT:
        return tag("code", name)
    parts = joined_by(tag("wbr"), (f"{one}." for one in shortened(name).split(".")))
    text = Markup(parts.removesuffix("."))
    return tag("code", text, class_="split", title=name if len(name) > _LONGEST else None)


def named(module: str) -> Markup:
    """Return the name of a module as code; that of the model itself, which has none, in words."""
    return code(module) if module else joined(THE_MODEL)


def joined_by(between: Content, parts: Iterable[Content]) -> Markup:
    """Return parts with something between them."""
    return Markup(joined(between).join(map(joined, parts)))


def shortened(name: str, most: int = _LONGEST) -> str:
    """Return a name with its middle left out where it is too long to be read."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-most // 2 :]}"


def words(text: str) -> Markup:
    """Return a sentence of ours, in which backticks make code.

    All of it is escaped; a name of a user that has backticks only looks odd.
    """
    parts = text.split("`")
    return joined(tag("code", one) if number % 2 else one for number, one in enumerate(parts))


def section(name: str, title: str, *inside: Content, lede: Content = None) -> Markup:
    """Return a section of the page.

    Args:
        name: for links.
        title: above it.
        inside: what it has.
        lede: one sentence that says what is to be seen.
    """
    said = tag("p", lede, class_="lede") if lede else None
    return tag("section", tag("h2", title), said, *inside, id=name)


def table(
    head: Iterable[tuple[str, str]], rows: Iterable[Markup], *, class_: str = "", most: int = 25
) -> Markup:
    """Return a table that scrolls where it is long or wide.

    Args:
        head: the columns: what stands above them, and ``"number"`` or ``"text"``.
        rows: of cells.
        class_: of the table.
        most: rows that are shown without scrolling.
    """
    body = list(rows)
    above = (tag("th", text, scope="col", class_=kind) for text, kind in head)
    made = tag("table", tag("thead", tag("tr", above)), tag("tbody", body), class_=class_ or None)
    long = " long" if len(body) > most else ""
    return tag("div", made, class_=f"scroll{long}", tabindex=0 if long else None)


def number_cell(shown: Content, value: float | None = None, called: str | None = None) -> Markup:
    """Return a cell with a number.

    Args:
        shown: the number for people.
        value: what it is sorted by.
        called: what stands before it where there is no room for a head of the table.
    """
    by = None if value is None else repr(value)
    return tag("td", shown, class_="number", data_v=by, data_c=called)
