"""YAML of plain values and of bounded size, as files of ours hold it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
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
_LONG = 100
# PyYAML reads `1:1:…` to the base 60, in quadratic time; no number of ours is longer than 25.
_LONG_NUMBER = re.compile(r"[-+.]?[0-9][0-9a-fxA-FX_.:+-]{100,}")
_NO_KEY = object()

_RESOLVER: Any = yaml.resolver.Resolver()
_TEXT, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class TooMuch(yaml.YAMLError):
    """A document has more values or levels than a file of ours, or a value inside of itself."""


def read_plain_yaml(content: bytes) -> Any:
    """Return the one document in ``content``.

    Raises:
        yaml.YAMLError: if it is no YAML, or has tags, a key twice, or more than is allowed.
        ValueError: if a value cannot be read.

    Example::

        read_plain_yaml(b"op: {fc: int8}")  # {"op": {"fc": "int8"}}
    """
    document = _Document()
    ways: dict[type, Callable[[Any], None]] = {}
    for event in yaml.parse(content, Loader=_Base):
        kind = type(event)
        way = ways.get(kind) or ways.setdefault(kind, document.way_of(kind))
        way(event)
    return document.value


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
            found.count(self.count(inner, depth + 1))
            check_amount(self._written, found.values, depth)
        self._known[id(value)] = found
        return found


class _Counted:
    """A value that is being read.

    Attributes:
        value: as far as it is built.
        values: how many it holds, itself and those that aliases stand for included.
        levels: how many levels it has.
    """

    def __init__(self, anchor: str | None, value: Any = None) -> None:
        self.anchor, self.value = anchor, value
        self.values, self.levels = 1, 1

    def count(self, inner: _Counted) -> None:
        self.values += inner.values
        self.levels = max(self.levels, 1 + inner.levels)

    def take(self, value: Any) -> None:
        """Put a value into this one."""
        self.value = value


class _Mapping(_Counted):
    """A mapping that is being read, a key and a value in turns.

    Args:
        event: with which it began.
    """

    def __init__(self, event: Any) -> None:
        super().__init__(event.anchor, {})
        self._mark = event.start_mark
        self._key: Any = _NO_KEY

    def take(self, value: Any) -> None:
        if self._key is _NO_KEY:
            self._check_key(value)
            self._key = value
        else:
            self.value[self._key] = value
            self._key = _NO_KEY

    def _check_key(self, key: Any) -> None:
        try:
            twice = key in self.value
        except TypeError as error:
            raise _wrong("a key is no scalar", self._mark) from error
        if twice:
            raise _wrong(f"a key is given twice: `{_short(str(key))}`", self._mark)


class _Sequence(_Counted):
    """A list that is being read.

    Args:
        event: with which it began.
    """

    def __init__(self, event: Any) -> None:
        super().__init__(event.anchor, [])
        self.take = self.value.append  # type: ignore[method-assign]


class _Document:
    """Builds the one value of a document as its events come, and counts what it holds.

    PyYAML itself makes nodes of events, and values of these, at three times the cost.
    """

    def __init__(self) -> None:
        self._open: list[_Counted] = [_Counted(None)]
        self._known: dict[str, _Counted] = {}
        self._written, self._documents = 0, 0

    @property
    def value(self) -> Any:
        """The one value."""
        return self._open[0].value

    def way_of(self, kind: type) -> Callable[[Any], None]:
        """Return what takes events of a class."""
        ways: dict[type, Callable[[Any], None]] = {
            yaml.ScalarEvent: self.scalar,
            yaml.CollectionStartEvent: self.begin,
            yaml.CollectionEndEvent: self.end,
            yaml.AliasEvent: self.alias,
            yaml.DocumentStartEvent: self.document,
        }
        return next((way for base, way in ways.items() if issubclass(kind, base)), _nothing)

    def scalar(self, event: Any) -> None:
        """Take a scalar: most of all events are of these, and have no anchor."""
        if event.tag is not None or len(event.value) > _LONG:
            _check_scalar(event)
        value = _plain(event.value) if event.implicit[0] else event.value  # else it is in quotes
        if event.anchor is not None:
            self._close(_Counted(event.anchor, value))
            return
        around = self._open[-1]
        around.take(value)
        around.values, around.levels = around.values + 1, max(around.levels, 2)
        self._written += 1
        if self._written > MAX_VALUES:
            check_amount(self._written, 0, 0)

    def begin(self, event: Any) -> None:
        """Take the beginning of a mapping or a list."""
        _check_tag(event)
        check_amount(self._written, 0, len(self._open))
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        self._open.append(_Mapping(event) if is_mapping else _Sequence(event))

    def end(self, _: Any) -> None:
        """Take the end of a mapping or a list."""
        self._close(self._open.pop())

    def alias(self, event: Any) -> None:
        """Take what stands for a value that was there before."""
        self._close(_aliased(event, self._known, self._open))

    def document(self, event: Any) -> None:
        """Take the beginning of a document."""
        self._documents += 1
        if self._documents > 1:
            raise _wrong("it holds another document", event.start_mark)

    def _close(self, done: _Counted) -> None:
        self._written += 1
        if done.anchor is not None:
            self._known[done.anchor] = done
        around = self._open[-1]
        around.take(done.value)
        around.count(done)
        check_amount(self._written, around.values, len(self._open) + done.levels - 1)


def _nothing(_: object) -> None:
    """Take what is no part of the value, as the end of the stream."""


def _aliased(
    event: yaml.AliasEvent, known: Mapping[str, _Counted], open_ones: list[_Counted]
) -> _Counted:
    name = str(event.anchor)
    if any(one.anchor == name for one in open_ones):
        raise TooMuch(f"the value `{_short(name)}` is inside of itself{_place(event)}")
    if name not in known:
        raise _wrong(f"found undefined alias `{_short(name)}`", event.start_mark)
    meant, found = known[name], _Counted(None, known[name].value)
    found.values, found.levels = meant.values, meant.levels
    return found


@lru_cache(4096)
def _plain(text: str) -> Any:
    """Return the value of a scalar without quotes, as PyYAML reads it."""
    tag: str = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))
    if tag == _TEXT:
        return text
    if tag == _MERGE:
        raise TooMuch("a mapping is merged into another one, which files of ours never do")
    return yaml.constructor.SafeConstructor().construct_object(yaml.ScalarNode(tag, text))


def _wrong(what: str, mark: Any) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, what, mark)


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


def _place(event: Any) -> str:
    return f", line {event.start_mark.line + 1}" if event.start_mark else ""


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"
