"""What LPOT calls by name: tables of names and options, and how they are read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from operator import methodcaller

from lpot_lightning.conf.blocks import ANY, FrozenOptions, NamedConf
from lpot_lightning.conf.cursor import Field, ReadField, read_all, suggest
from lpot_lightning.conf.plain import BARE_OPTIONS, frozen
from lpot_lightning.errors import quoted

# Readers of one such value or of nothing.
flag: ReadField = methodcaller("flag", None)
text: ReadField = methodcaller("text", None)
words: ReadField = methodcaller("words", None)

Table = Mapping[str, Mapping[str, ReadField]]


def read_named(field: Field, table: Table, foreign: Collection[str], instead: str) -> NamedConf:
    """Read a mapping that holds exactly one name of the table.

    Args:
        field: Where the mapping stands.
        table: The names with their options, and how each option is read.
        foreign: LPOT's names for other frameworks; who needs them refuses them.
        instead: What to do about a name that is in neither.
    """
    names = len(field.required().entries())
    if names != 1:
        field.fault(f"holds {names} names; allowed: exactly one of {quoted(table)}.")
    if not names:
        raise field.faults.pop()
    return read_each(field, table, foreign, instead)[0]


def read_each(
    field: Field, table: Table, foreign: Collection[str], instead: str
) -> tuple[NamedConf, ...]:
    """Read a mapping of names of the table, in the user's order; arguments as ``read_named``."""

    def one(name: str, entry: Field) -> NamedConf:
        if name in foreign:
            return NamedConf(name, _as_given(entry))
        if name not in table:
            raise entry.error(
                f"is not known; allowed: {quoted(table)}; {instead}.{suggest(name, tuple(table))}"
            )
        return NamedConf(name, _options(entry, table[name]))

    return tuple(read_all(field.entries(), one).values())


def _as_given(field: Field) -> FrozenOptions:
    """Return options that nobody here reads: a Trainer may do without what they are of."""
    return FrozenOptions(
        tuple((name, frozen(entry.value)) for name, entry in field.entries().items())
    )


def _options(field: Field, readers: Mapping[str, ReadField]) -> FrozenOptions:
    bare = BARE_OPTIONS.get(str(field.keys[-1]))
    if bare:
        return FrozenOptions(((bare, readers[bare](field)),))
    return read_options(field, readers)


def read_options(field: Field, readers: Mapping[str, ReadField]) -> FrozenOptions:
    """Read a mapping of options; what is not given is left out."""
    part = field.section(*readers)
    values = read_all(part, lambda name, one: readers[name](one))
    return FrozenOptions(
        tuple((name, value) for name, value in values.items() if value is not None)
    )


def need(read: ReadField) -> ReadField:
    """Return a reader that refuses a missing value."""
    return lambda field: read(field.required())


def one_of(*allowed: str) -> ReadField:
    """Return a reader of one of these texts."""
    return lambda field: field.text(None, allowed)


def integer(interval: str = ANY) -> ReadField:
    """Return a reader of a whole number."""
    return lambda field: field.integer(None, interval)


def number(interval: str = ANY) -> ReadField:
    """Return a reader of a number."""
    return lambda field: field.number(None, interval)


def integers(field: Field, interval: str = ANY) -> tuple[int, ...] | None:
    """Read a list of whole numbers or nothing."""
    return tuple(item.required().integer(0, interval) for item in _filled(field)) or None


def numbers(field: Field, interval: str = ANY) -> tuple[float, ...] | None:
    """Read a list of numbers or nothing."""
    return tuple(item.required().number(0.0, interval) for item in _filled(field)) or None


def _filled(field: Field) -> list[Field]:
    if field.value == []:
        raise field.wrong("a list of numbers")
    return field.items()
