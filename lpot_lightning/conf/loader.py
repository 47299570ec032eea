"""A YAML loader of our own: lines, no surprises, no bombs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from lpot_lightning.errors import ConfError

Keys = tuple[str | int, ...]
MAX_DEPTH = 50
MAX_NODES = 10_000
CORE = "tag:yaml.org,2002:"
PRUNER = "!Pruner"


class YamlLimits:
    """Counts values and levels, so that a small file cannot grow large."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.nodes = 0
        self.depth = 0

    @contextmanager
    def level(self) -> Iterator[None]:
        """Count one value, and everything inside the ``with`` as one level deeper.

        Raises:
            ConfError: If it is one too many or too deep.
        """
        self.nodes += 1
        if self.depth > MAX_DEPTH:
            raise ConfError(f"{self.source} is nested deeper than {MAX_DEPTH} levels.")
        if self.nodes > MAX_NODES:
            raise ConfError(f"{self.source} holds more than {MAX_NODES:,} values.")
        self.depth += 1
        yield
        self.depth -= 1


def spell(keys: Keys) -> str:
    """Return ``pruners[0].names`` for ``("pruners", 0, "names")``."""
    parts = (f"[{key}]" if isinstance(key, int) else f".{printable(key)}" for key in keys)
    return "".join(parts).removeprefix(".")


def printable(text: str) -> str:
    """Return the text, shortened and escaped where that is needed to show it."""
    clear = text if text.isprintable() else ascii(text)[1:-1]
    return clear if len(clear) <= 60 else f"{clear[:57]}..."


class YamlLoader(yaml.SafeLoader):
    """PyYAML's parser with YAML 1.2 numbers and one tag, ``!Pruner``; the global one is untouched.

    PyYAML reads ``1e-2`` as text, ``012`` as ten and ``12:30`` as 750; here ``1e-2`` is a number
    and the other two are text.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}

    def __init__(self, text: str, source: str) -> None:
        super().__init__(text)
        self.source = source
        self.composed = YamlLimits(source)
        self.walked = YamlLimits(source)
        self.lines: dict[Keys, int] = {}

    def load(self) -> tuple[Any, dict[Keys, int]]:
        """Return the one document as plain values, and the line of every key."""
        node = self.get_single_node()
        return (None if node is None else self._value(node, ())), self.lines

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Stop at the first node that is too deep, before Python's own stack does."""
        with self.composed.level():
            return super().compose_node(parent, index)

    def _value(self, node: yaml.Node, keys: Keys) -> Any:
        with self.walked.level():
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, keys)
            if isinstance(node, yaml.SequenceNode):
                return self._sequence(node, keys)
            return self._scalar(node, keys)

    def _mapping(self, node: yaml.MappingNode, keys: Keys) -> dict[str, Any]:
        is_pruner = node.tag == PRUNER and keys[-2:-1] == ("pruners",)
        if node.tag != f"{CORE}map" and not is_pruner:
            raise self._unknown_tag(node)
        content = self._merged(node, keys)
        own: set[str] = set()
        for name, key, value in self._entries(node):
            if name in own:
                raise self._error(key, f"`{spell((*keys, name))}` is given twice.")
            own.add(name)
            self.lines[*keys, name] = key.start_mark.line + 1
            content[name] = self._value(value, (*keys, name))
        return content

    def _merged(self, node: yaml.MappingNode, keys: Keys) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == f"{CORE}merge":
                for base in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    merged = self._base(base, keys) | merged
        return merged

    def _base(self, node: yaml.Node, keys: Keys) -> dict[str, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, "`<<` takes a mapping.")
        value: dict[str, Any] = self._value(node, keys)
        return value

    def _entries(self, node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._error(key, "a key must be one word, not a list or a mapping.")
            if key.tag != f"{CORE}merge":
                yield key.value, key, value

    def _sequence(self, node: yaml.SequenceNode, keys: Keys) -> list[Any]:
        if node.tag != f"{CORE}seq":
            raise self._unknown_tag(node)
        for index, item in enumerate(node.value):
            self.lines[*keys, index] = item.start_mark.line + 1
        return [self._value(item, (*keys, index)) for index, item in enumerate(node.value)]

    def _scalar(self, node: yaml.Node, keys: Keys) -> Any:
        read = _SCALARS.get(node.tag.removeprefix(CORE))
        if read is None:
            raise self._unknown_tag(node)
        try:
            return read(node.value)
        except (KeyError, ValueError):
            problem = f"`{spell(keys)}` is `{printable(node.value)}`, which cannot be read."
            raise self._error(node, problem) from None

    def _unknown_tag(self, node: yaml.Node) -> ConfError:
        tag = printable(node.tag.replace(CORE, "!!"))
        return self._error(
            node,
            f"the tag `{tag}` is not allowed here; "
            f"allowed: `{PRUNER}` before a mapping in `pruners`.",
        )

    def _error(self, node: yaml.Node, problem: str) -> ConfError:
        return ConfError(f"{self.source}:{node.start_mark.line + 1}: {problem}")


_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}

_SCALARS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "null": lambda text: None,
    "bool": lambda text: _FLAGS[text.lower()],
    "int": lambda text: int(text.replace("_", "")),
    "float": lambda text: float(re.sub(r"\.(?=[a-z])|_", "", text.lower())),
}

_PATTERNS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"(?i:true|false|yes|no|on|off)",
    "int": r"[-+]?(?:0|[1-9][0-9_]*)",
    "float": r"[-+]?(?:(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
    r"|[0-9][0-9_]*[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)",
    "merge": r"<<",
}

for _name, _pattern in _PATTERNS.items():
    YamlLoader.add_implicit_resolver(f"{CORE}{_name}", re.compile(rf"^(?:{_pattern})\Z"), None)
