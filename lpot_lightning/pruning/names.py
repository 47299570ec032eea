"""What a name in a pruner means: a parameter, layers by number, a glob."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Matches:
    """What a name in the YAML means.

    Args:
        layers: what its first ``*`` stands for, by the name of each parameter that is meant.
        passed: what is not meant, and would be if each ``*`` stood for any text.
    """

    layers: Mapping[str, str]
    passed: Collection[str] = ()


def matches(pattern: str, known: Collection[str]) -> Matches:
    """Return which of the ``known`` names a name in the YAML means.

    Each ``*`` is the number of a layer, as in LPOT, where that fits any of them; else it is any
    text, as in a glob. ``**`` is always any text.

    Example::

        matches("layer.*.fc.weight", ["layer.0.fc.weight", "layer.0.mlp.fc.weight"]).layers
        # {"layer.0.fc.weight": "0"}
    """
    texts = {name: _layer(pattern, "(.*?)", name) for name in known if fnmatchcase(name, pattern)}
    if "*" not in pattern or "**" in pattern:
        return Matches(texts)
    numbered = [name for name in texts if _match(pattern, r"(\d+)", name)]
    if not numbered:
        return Matches(texts)
    layers = {name: _layer(pattern, r"(\d+)", name) for name in numbered}
    return Matches(layers, [name for name in texts if name not in layers])


def _match(pattern: str, star: str, name: str) -> re.Match[str] | None:
    return re.fullmatch(star.join(map(re.escape, pattern.split("*"))), name, re.ASCII)


def _layer(pattern: str, star: str, name: str) -> str:
    """Return what the first ``*`` stands for; ``""`` where there is none, or ``?`` and ``[``."""
    found = _match(pattern, star, name)
    return found[1] if found and found.re.groups else ""
