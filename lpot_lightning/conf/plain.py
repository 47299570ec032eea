"""Frozen values of the YAML back to plain dicts and lists."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from lpot_lightning.conf.blocks import FrozenOptions, NamedConf, PrecisionWish

# What LPOT writes with one bare value, as in `topk: 1`, and what we call that value.
BARE_OPTIONS = {"topk": "k", "LabelShift": "shift"}
NO_KEY = {"is_key": False}
"""The metadata of a field that is no key of the YAML."""


def keys_of(kind: Any) -> tuple[str, ...]:
    """Return which fields of a dataclass are keys of the YAML."""
    return tuple(item.name for item in fields(kind) if item.metadata != NO_KEY)


def to_plain(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass as plain values; what is not given is left out."""
    found = {name: getattr(value, name) for name in keys_of(value)}
    given = {name: content for name, content in found.items() if content not in (None, ())}
    return {name: _plain(content) for name, content in given.items()}


def frozen(value: Any) -> Any:
    """Return plain dicts, lists and scalars as values that never change."""
    if isinstance(value, dict):
        return FrozenOptions(tuple((name, frozen(item)) for name, item in value.items()))
    return tuple(frozen(item) for item in value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, NamedConf):
        return _named((value,))
    if isinstance(value, FrozenOptions):
        return {key: _plain(option) for key, option in value.items()}
    if isinstance(value, tuple):
        return _plain_tuple(value)
    return to_plain(value) if hasattr(value, "__dataclass_fields__") else value


def _plain_tuple(value: tuple[Any, ...]) -> Any:
    if value and isinstance(value[0], NamedConf):
        return _named(value)
    if value and isinstance(value[0], tuple) and isinstance(value[0][-1], PrecisionWish):
        return {name: to_plain(wish) for name, wish in value}
    return [_plain(item) for item in value]


def _named(value: tuple[NamedConf, ...]) -> dict[str, Any]:
    return {item.name: _options(item) for item in value}


def _options(named: NamedConf) -> Any:
    bare = BARE_OPTIONS.get(named.name)
    return named.options[bare] if bare else _plain(named.options)
