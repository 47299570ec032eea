"""YAML of plain values and of bounded size, as files of ours hold it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

MAX_DEPTH = 64
"""Files of ours have eight levels; Python's own stack ends at some hundreds."""
MAX_VALUES = 1_000_000
"""The largest nets have some 100,000: a few for each op, one for each channel that was cut."""
MAX_ALIASED = 100_000
"""PyYAML writes an alias where one object is met twice. Some kB of them can stand for more values
than there is memory, so what they stand for is counted, and may be this much or ``GROWTH`` times
what is written."""
GROWTH = 16
# PyYAML reads `1:1:…` to the base 60, in quadratic time; no number of ours is longer than 25.
_LONG_NUMBER = re.compile(r"[-+.]?[0-9][0-9a-fxA-FX_.:+-]{100,}")

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class TooMuch(yaml.YAMLError):
    """A document has more values or levels than a file of ours, or a value inside of itself."""


class _Loader(_Base):  # type: ignore[misc]
    """PyYAML's safe loader, by libyaml where there is one, that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        found: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        if len(found) != len(node.value):
            raise yaml.constructor.ConstructorError(
                None, None, f"a key is given twice{_twice(node)}", node.start_mark
            )
        return found


def read_plain_yaml(content: bytes) -> Any:
    """Return the one document in ``content``.

    Raises:
        yaml.YAMLError: if it is no YAML, or has tags, a key twice, or more than is allowed.
        ValueError: if a value cannot be read.

    Example::

        read_plain_yaml(b"op: {fc: int8}")  # {"op": {"fc": "int8"}}
    """
    _check_events(content)
    loader = _Loader(content)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def check_plain(value: object) -> None:
    """Hold dicts, lists and tuples that came another way to what ``read_plain_yaml`` allows.

    Raises:
        TooMuch: if they hold more, or hold themselves.
    """
    _Walk().count(value, 1)


class _Walk:
    """Counts values; one that is met again is not walked again."""

    def __init__(self) -> None:
        self._known: dict[int, _Counted | None] = {}
        self._written = 0

    def count(self, value: object, depth: int) -> _Counted:
        self._written += 1
        found = _Counted(None)
        if not isinstance(value, dict | list | tuple):
            return found
        if id(value) in self._known:
            known = self._known[id(value)]
            if known is None:
                raise TooMuch("a value is inside of itself")
            check_amount(self._written, known.values, depth + known.levels - 1)
            return known
        self._known[id(value)] = None  # it is not done yet
        for inner in value.values() if isinstance(value, dict) else value:
            found.take(self.count(inner, depth + 1))
            check_amount(self._written, found.values, depth)
        self._known[id(value)] = found
        return found


class _Counted:
    """A value that is being read.

    Attributes:
        values: how many it holds, itself and those that aliases stand for included.
        levels: how many levels it has.
    """

    def __init__(self, anchor: str | None) -> None:
        self.anchor = anchor
        self.values, self.levels = 1, 1

    def take(self, inner: _Counted) -> None:
        self.values += inner.values
        self.levels = max(self.levels, 1 + inner.levels)


def _check_events(content: bytes) -> None:
    """Count what is in a document before any of it is built."""
    written, open_ones = 0, [_Counted(None)]
    known: dict[str, _Counted] = {}
    for event in yaml.parse(content, Loader=_Base):
        if isinstance(event, yaml.AliasEvent):
            done = _aliased(event, known, open_ones)
        elif isinstance(event, yaml.ScalarEvent):
            _check_scalar(event)
            done = _Counted(event.anchor)
        elif isinstance(event, yaml.CollectionStartEvent):
            _check_tag(event)
            check_amount(written, 0, len(open_ones))
            open_ones.append(_Counted(event.anchor))
            continue
        elif isinstance(event, yaml.CollectionEndEvent):
            done = open_ones.pop()
        else:
            continue
        written += 1
        if done.anchor is not None:
            known[done.anchor] = done
        open_ones[-1].take(done)
        check_amount(written, open_ones[-1].values, len(open_ones) + done.levels - 1)


def _aliased(
    event: yaml.AliasEvent, known: Mapping[str, _Counted], open_ones: list[_Counted]
) -> _Counted:
    name = str(event.anchor)
    if any(one.anchor == name for one in open_ones):
        raise TooMuch(f"the value `{_short(name)}` is inside of itself{_place(event)}")
    meant, found = known.get(name, _Counted(None)), _Counted(None)
    found.values, found.levels = meant.values, meant.levels
    return found


def check_amount(written: int, values: int, depth: int) -> None:
    """Refuse what is too much.

    Args:
        written: how many values are there one by one.
        values: how many they stand for.
        depth: how many levels there are.

    Raises:
        TooMuch: if it is more than a file of ours holds.
    """
    if depth > MAX_DEPTH:
        raise TooMuch(f"it is nested deeper than {MAX_DEPTH} levels")
    if written > MAX_VALUES:
        raise TooMuch(f"it holds more than {MAX_VALUES:,} values")
    if values > max(MAX_ALIASED, GROWTH * written):
        raise TooMuch(f"its {written:,} values stand for more than {values:,} by aliases")


def _check_scalar(event: yaml.ScalarEvent) -> None:
    _check_tag(event)
    if event.implicit[0] and _LONG_NUMBER.fullmatch(event.value):
        raise TooMuch(f"a number has {len(event.value):,} digits{_place(event)}")


def _check_tag(event: Any) -> None:
    if event.tag is not None:
        raise TooMuch(f"the tag `{_short(event.tag)}` is none of ours{_place(event)}")


def _twice(node: yaml.MappingNode) -> str:
    seen: set[str] = set()
    for key, _ in node.value:
        if str(key.value) in seen:
            return f": `{_short(str(key.value))}`"
        seen.add(str(key.value))
    return ""


def _place(event: Any) -> str:
    return f", line {event.start_mark.line + 1}" if event.start_mark else ""


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"
