"""The model as nested boxes, each op in the colour of its precision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lpot_lightning.recipe import Rung
from lpot_lightning.report.facts import TuningFacts
from lpot_lightning.report.markup import Content, Markup, code, section, shortened, tag
from lpot_lightning.report.rungs import look_of, title_of

_DEEPEST = 12
"""Boxes in boxes; what lies deeper has its whole rest as a name."""


@dataclass
class Part:
    """A module, or an op, and what is in it."""

    rungs: list[Rung | None] = field(default_factory=list)
    parts: dict[str, Part] = field(default_factory=dict)


def tree_of(rungs: Mapping[str, Rung | None]) -> Part:
    """Return names as a tree, by their dots, and by the ``#`` of a function."""
    root = Part()
    for name, rung in rungs.items():
        place, path = root, name.replace("#", ".#")
        for one in path.split(".", _DEEPEST - 1):
            place = place.parts.setdefault(one, Part())
        place.rungs.append(rung)
    return root


def map_section(tuning: TuningFacts) -> Markup | None:
    """Return the map and what its colours mean."""
    rungs: dict[str, Rung | None] = dict.fromkeys(tuning.excluded)
    rungs.update({one.name: one.rung for one in tuning.ops})
    if not tuning.ops:
        return None
    tree = tree_of(rungs)
    return section(
        "map",
        "Where it is int8",
        _legend(rungs.values()),
        tag("div", [_drawn(name, part) for name, part in tree.parts.items()], class_="tiles"),
        lede="The model as its modules are nested; only parts that compute with weights, or that"
        " cannot be int8, are shown.",
    )


def _legend(rungs: Iterable[Rung | None]) -> Markup:
    counts = Counter(rungs)
    order: list[Rung | None] = [*Rung, None]
    keys = [
        tag("li", _tile("", [one]), f"{title_of(one)}: {counts[one]}")
        for one in order
        if counts[one]
    ]
    return tag("ul", keys, class_="legend")


def _drawn(name: str, part: Part) -> Markup:
    while len(part.parts) == 1 and not part.rungs:  # a box around one box says nothing
        inner, one = next(iter(part.parts.items()))
        name, part = f"{name}.{inner}".replace(".#", "#"), one
    if not part.parts:
        return _tile(name, part.rungs)
    own = [_tile("itself", part.rungs)] if part.rungs else []
    inside = [_drawn(inner, one) for inner, one in part.parts.items()]
    held = tag("div", own, inside, class_="tiles")
    return tag("div", tag("div", code(shortened(name, 60)), class_="title"), held, class_="box")


def _tile(name: str, rungs: Iterable[Rung | None]) -> Markup:
    rung = next(iter(rungs), None)
    look, short = look_of(rung)
    said: Content = code(shortened(name, 60)) if name else None
    told = f"{name}: {title_of(rung)}" if name else None
    return tag("span", tag("b", short), said, class_=f"tile {look}", title=told)
