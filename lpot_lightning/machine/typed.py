"""Whether a value that was read is of the type that it is said to be, at any depth."""

from __future__ import annotations

import types
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from math import isfinite
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from typing_extensions import is_typeddict

_SHOWN = 60


def is_positive(value: float) -> bool:
    """Whether a number is finite and above 0."""
    return isfinite(value) and value > 0


def is_not_negative(value: float) -> bool:
    """Whether a number is finite and not below 0."""
    return isfinite(value) and value >= 0


Positive = Annotated[float, is_positive]
NotNegative = Annotated[float, is_not_negative]


def check_typed(value: object, kind: Any, where: str, known: Collection[type] = ()) -> None:
    """Hold ``value`` against a type hint; a dataclass and a ``TypedDict`` field by field.

    Args:
        value: whatever was read.
        kind: the hint. One that is ``Annotated`` may have tests, which take the value.
        where: what the value is called.
        known: types whose objects are checked when they are made.

    Raises:
        TypeError: naming what is of another type, or out of its bounds.

    Example::

        try:
            check_typed({"fc": "fast"}, dict[str, float], "costs")
        except TypeError as error:
            print(error)  # it says: `costs.fc` is `fast`; allowed: a number
    """
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        _check_one_of(value, args, where, known)
    elif origin is Annotated:
        check_typed(value, args[0], where, known)
        _check(all(test(value) for test in args[1:]), value, where, _bounds(args[1:]))
    elif origin is Literal:
        _check(any(value is one or value == one for one in args), value, where, str(args))
    elif is_typeddict(kind):
        _check_keys(value, kind, where, known)
    elif is_dataclass(kind) and isinstance(kind, type):
        _check(isinstance(value, kind), value, where, kind.__name__)
        if kind not in known:
            for name, hint in hints_of(kind).items():
                check_typed(getattr(value, name), hint, f"{where}.{name}", known)
    elif origin is not None and args:
        _check_container(value, origin, args, where, known)
    else:
        _check_plain(value, origin or kind, where)


def _check_one_of(value: object, kinds: Sequence[Any], where: str, known: Collection[type]) -> None:
    if value is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    for kind in others[:-1]:
        try:
            return check_typed(value, kind, where, known)
        except TypeError:
            continue
    return check_typed(value, others[-1], where, known)


def _check_container(
    value: object, origin: Any, args: Sequence[Any], where: str, known: Collection[type]
) -> None:
    _check(isinstance(value, origin) and not isinstance(value, str), value, where, _name(origin))
    if isinstance(value, Mapping):
        for key, one in value.items():
            check_typed(key, args[0], f"{where}: a key", known)
            check_typed(one, args[1], f"{where}.{str(key)[:_SHOWN]}", known)
    elif isinstance(value, Sequence):
        is_counted = origin is tuple and args[-1] is not ...
        kinds = list(args) if is_counted else [args[0]] * len(value)
        _check(len(kinds) == len(value), value, where, f"{len(kinds)} values")
        for place, (one, kind) in enumerate(zip(value, kinds, strict=True)):
            check_typed(one, kind, f"{where}[{place}]", known)


def _check_keys(value: object, kind: Any, where: str, known: Collection[type]) -> None:
    hints = hints_of(kind)
    _check(isinstance(value, dict) and set(value) == set(hints), value, where, _listed(hints))
    assert isinstance(value, dict)
    for name, hint in hints.items():
        check_typed(value[name], hint, f"{where}.{name}", known)


def _check_plain(value: object, kind: Any, where: str) -> None:
    if kind is Any:
        return
    if kind is float:
        _check(_is_number(value, int | float), value, where, "a number")
    elif kind is int:
        _check(_is_number(value, int), value, where, "a whole number")
    else:
        _check(isinstance(value, kind), value, where, _name(kind))


def _is_number(value: object, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


@cache
def hints_of(kind: Any) -> Mapping[str, Any]:
    """Return the hints of the fields of a dataclass, or of the keys of a ``TypedDict``."""
    hints = get_type_hints(kind, include_extras=True)
    if not is_dataclass(kind):
        return hints
    return {one.name: hints[one.name] for one in fields(kind)}


def look_up_hints(*kinds: Any) -> None:
    """Look up all hints in ``kinds``, as a module does that reads files of others by them.

    Python evaluates hints as code. Once that is done when we are imported, whoever watches for
    ``exec`` sees none while a file is read.

    Example::

        look_up_hints(Score, dict[str, CostsFound])
    """
    left, seen = list(kinds), set()
    while left:
        kind = left.pop()
        if repr(kind) in seen:
            continue
        seen.add(repr(kind))
        left += get_args(kind)
        if is_typeddict(kind) or (is_dataclass(kind) and isinstance(kind, type)):
            left += hints_of(kind).values()


def _check(fits: bool, value: object, where: str, allowed: str) -> None:
    if not fits:
        raise TypeError(f"`{where}` is `{str(value)[:_SHOWN]}`; allowed: {allowed}")


def _bounds(tests: Sequence[Callable[[Any], bool]]) -> str:
    return " and ".join(one.__name__.replace("_", " ") for one in tests)


def _listed(names: Collection[str]) -> str:
    return f"a mapping of {', '.join(names)}"


def _name(kind: Any) -> str:
    return {str: "a text", bool: "true or false"}.get(kind, f"a {kind.__name__}")
