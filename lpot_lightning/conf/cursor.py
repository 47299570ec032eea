"""A cursor: one value of the YAML that knows its key and line, and how a section is read."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from lpot_lightning.conf.blocks import ANY
from lpot_lightning.conf.document import Document
from lpot_lightning.conf.loader import Keys, printable, spell
from lpot_lightning.conf.plain import keys_of
from lpot_lightning.errors import ConfError, NotYetError, nearest, quoted
from lpot_lightning.machine.typed import hints_of

K = TypeVar("K")
T = TypeVar("T")

_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+\Z", re.ASCII)
_PERCENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)%\Z", re.ASCII)
_LARGEST_WHOLE = 2**63


@dataclass(frozen=True, kw_only=True)
class Field:
    """One value of the YAML. Every reading method takes what stands for "not given" first.

    ``notes`` and ``faults`` are of all values of one document. A value is ``excused`` that is not
    given where its section has a fault: what is there may well be meant for it. ``needed`` says
    what belongs there.
    """

    value: Any
    document: Document
    keys: Keys = ()
    notes: list[str] = field(default_factory=list)
    faults: list[ConfError] = field(default_factory=list)
    excused: bool = False
    needed: str = ""

    @property
    def key(self) -> str:
        """The full key, such as ``tuning.exit_policy.timeout``."""
        return spell(self.keys)

    @property
    def given(self) -> bool:
        """Whether there is a value; ``null`` is none."""
        return self.value is not None

    def error(self, problem: str) -> ConfError:
        """Return the error that this value has this problem."""
        return ConfError(f"{self.document.where(self.keys)}{self._name()} {problem}")

    def not_yet(self, problem: str) -> NotYetError:
        """Return the error that this value asks for something not built yet."""
        return NotYetError(f"{self.document.where(self.keys)}{self._name()} {problem}")

    def wrong(self, allowed: str, hint: str = "") -> ConfError:
        """Return the error that the value is none of the allowed ones."""
        return self.error(f"is {_shown(self.value)}; allowed: {allowed}.{hint}")

    def fault(self, problem: str) -> None:
        """Remember the error that this value has this problem, and read on."""
        self.faults.append(self.error(problem))

    def note(self, remark: str) -> None:
        """Remember something that is accepted and has no effect, for the one warning."""
        self.notes.append(f"{self._name()} {remark}")

    def required(self) -> Field:
        """Return the field itself; an error if it is not given."""
        if not self.given:
            raise self.faults.pop() if self.excused else self.error(f"is missing{self.needed}.")
        return self

    def section(
        self,
        *known: Any,
        refused: Mapping[str, str] | None = None,
        idle: Mapping[str, str] | None = None,
    ) -> dict[str, Field]:
        """Return a field for each known key; one that is not given has no value.

        ``known`` are keys, and dataclasses for all of theirs, as a message is to list them. Of
        others that LPOT knows, ``refused`` are an error, and ``idle`` a remark, with the reason.
        """
        entries, keys = self.entries(), tuple(dict.fromkeys(_spread(known)))
        before = len(self.faults)
        found: dict[str, Field] = {}
        for name, entry in entries.items():
            if refused and name in refused:
                entry.refuse(refused[name])
            elif idle and name in idle:
                entry.note_if_asked(idle[name])
            elif name not in keys:
                taken = [key for key in keys if key not in (refused or {})]
                allowed = f"allowed in {self._name()}: {quoted(taken) or 'nothing'}"
                entry.fault(f"is not a known key; {allowed}.{suggest(name, keys)}")
                found |= _misspelt(entry, keys, entries)
        found |= {name: entry for name, entry in entries.items() if name in keys}
        absent = replace(self, value=None, excused=len(self.faults) > before)
        return {name: found.get(name) or absent._child(name, None) for name in keys}

    def entries(self) -> dict[str, Field]:
        """Return all entries of a mapping, in their order."""
        if not self.given:
            return {}
        if not isinstance(self.value, dict):
            raise self.wrong("a mapping")
        return {name: self._child(name, value) for name, value in self.value.items()}

    def items(self) -> list[Field]:
        """Return the entries of a list."""
        if not self.given:
            return []
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        return [self._child(index, value) for index, value in enumerate(self.value)]

    @property
    def asks(self) -> bool:
        """Whether the value asks for something."""
        return self.value is not None and self.value is not False and self.value not in ([], {})

    def refuse(self, reason: str) -> None:
        """Remember the error that this is not supported, unless the value asks for nothing."""
        if self.asks:
            self.fault(reason)

    def note_if_asked(self, remark: str) -> None:
        """Remember the remark, unless the value asks for nothing."""
        if self.asks:
            self.note(remark)

    def text(self, default: T, allowed: Sequence[str] = ()) -> str | T:
        """Return a text, one of the allowed ones if there are any."""
        if not self.given:
            return default
        if not isinstance(self.value, str):
            raise self.wrong(quoted(allowed) or "a text (put it in quotes)")
        if allowed and self.value not in allowed:
            raise self.wrong(quoted(allowed), suggest(self.value, allowed))
        if not self.value.strip() or not self.value.isprintable():
            raise self.wrong("printable text that is not empty")
        return self.value

    def words(self, default: T, allowed: Sequence[str] = ()) -> tuple[str, ...] | T:
        """Return several texts, from a list or from one text with commas or blanks."""
        if not self.given:
            return default
        parts = self._parts()
        if not parts:
            raise self.wrong(f"one or more of {quoted(allowed) or 'your own names'}")
        items = [self.holding(part).required().text("", allowed) for part in parts]
        return tuple(dict.fromkeys(items)) if allowed else tuple(items)

    def mentions(self, word: str) -> bool:
        """Whether one of the texts that ``words`` reads is this one."""
        return word in self._parts()

    def flag(self, default: T) -> bool | T:
        """Return ``True`` or ``False``."""
        if not self.given:
            return default
        if not isinstance(self.value, bool):
            raise self.wrong("`true`, `false`")
        return self.value

    def integer(self, default: T, interval: str = ANY) -> int | T:
        """Return a whole number inside an interval such as ``[1, inf)``."""
        if not self.given:
            return default
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int) or not _inside(value, interval):
            raise self.wrong(_in_words("a whole number", interval))
        return value

    def number(self, default: T, interval: str = ANY, *, percent: bool = False) -> float | T:
        """Return a number inside an interval; with ``percent`` also from ``"1%"``."""
        if not self.given:
            return default
        value = _as_float(self.value, percent)
        if value is None or not _inside(value, interval):
            kind = 'a number or a percentage such as "1%"' if percent else "a number"
            raise self.wrong(_in_words(kind, interval))
        return value

    def holding(self, value: Any) -> Field:
        """Return a field with the same key and another value."""
        return replace(self, value=value)

    def _parts(self) -> list[Any]:
        if isinstance(self.value, str):
            return [part for part in re.split(r"[,\s]+", self.value) if part]
        return self.value if isinstance(self.value, list) else []

    def _child(self, key: str | int, value: Any) -> Field:
        return replace(self, value=value, keys=(*self.keys, key))

    def _name(self) -> str:
        whole = "the mapping" if self.document.lines is None else "the file"
        return f"`{self.key}`" if self.keys else whole


ReadField = Callable[[Field], Any]
_WAYS: dict[Any, Callable[..., Any]] = {
    bool: Field.flag,
    int: Field.integer,
    float: Field.number,
    str: Field.text,
}


def read_into(
    kind: Callable[..., T], given: Field | Mapping[str, Field], **by_hand: ReadField
) -> T:
    """Return a dataclass of what a section gives.

    What is not given keeps its default; it is an error if there is none.

    Args:
        kind: The dataclass. Flags, numbers and texts are read as their type and ``checked`` say.
        given: The section, or its fields where it may hold more than the dataclass.
        by_hand: How the other fields are read.
    """
    part = given.section(kind) if isinstance(given, Field) else given
    read = {**_by_type(kind), **by_hand}
    asked = (name for name in part if name in keys_of(kind))
    needed = {name: part[name] for name in asked if part[name].given or not hasattr(kind, name)}
    return kind(**read_all(needed, lambda name, one: read[name](one.required())))


def read_all(those: Mapping[K, Field], read: Callable[[K, Field], T]) -> dict[K, T]:
    """Return what each of several fields gives; the faults of all of them are found.

    Raises:
        ConfError: if one of them is wrong: the last such error. Those before it are in ``faults``,
            and who catches this one puts it there, too.
    """
    found, faulty = {}, None
    for key, one in those.items():
        before = len(one.faults)
        try:
            found[key] = read(key, one)
        except ConfError as error:
            one.faults.append(error)
        if key not in found or len(one.faults) > before:
            faulty = one
    if faulty is not None:
        raise faulty.faults.pop()
    return found


@functools.cache
def _by_type(kind: Any) -> dict[str, ReadField]:
    """Return how those fields of a dataclass are read whose type says it."""
    hints = hints_of(kind)
    return {
        item.name: functools.partial(way, default=None, **item.metadata.get("allowed", {}))
        for item in fields(kind)
        for one, way in _WAYS.items()
        if hints[item.name] in (one, one | None)
    }


def _spread(known: Iterable[Any]) -> Iterator[str]:
    for one in known:
        yield from (one,) if isinstance(one, str) else keys_of(one)


def _misspelt(entry: Field, keys: Sequence[str], entries: Container[str]) -> dict[str, Field]:
    """Return an entry under the key that it was meant to have: what is in it is read, too."""
    meant = _meant(str(entry.keys[-1]), keys)
    return {} if meant is None or meant in entries or not entry.asks else {meant: entry}


def suggest(name: str, known: Sequence[str]) -> str:
    """Return ``" Did you mean `x`?"`` for the nearest known name, whatever its case."""
    meant = _meant(name, known)
    return "" if meant is None else f" Did you mean `{meant}`?"


def _meant(name: str, known: Sequence[str]) -> str | None:
    same = [word for word in known if word.lower() == name.lower()]
    return same[0] if same else nearest(name, known)


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        kind = "mapping" if isinstance(value, dict) else "list"
        return f"a {kind}" if value else f"an empty {kind}"
    if isinstance(value, int) and abs(value) >= _LARGEST_WHOLE:
        return "a number with too many digits"
    text = value if isinstance(value, str) else str(value)
    return f"`{printable(text.lower() if isinstance(value, bool) else text)}`"


def _as_float(value: Any, percent: bool) -> float | None:
    if isinstance(value, str) and percent and _PERCENT.match(value):
        return float(value[:-1]) / 100
    if isinstance(value, str) and not _EXPONENT.match(value):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, int) and abs(value) >= _LARGEST_WHOLE:
        return None
    return float(value)


def _inside(number: float, interval: str) -> bool:
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = number >= low if interval[0] == "[" else number > low
    below = number <= high if interval[-1] == "]" else number < high
    return above and below and abs(number) < _LARGEST_WHOLE


def _in_words(kind: str, interval: str) -> str:
    return kind if interval == ANY else f"{kind} in {interval}"
