"""Charts as plain SVG: places are percentages across and pixels down, so that any width fits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lpot_lightning.report.markup import Content, Markup, tag

HEIGHT, _TOP, _BOTTOM, _SIDE = 220, 12, 208, 3.0
_STEPS = (1, 2, 2.5, 5, 10)
_DIGITS = 12
"""Behind the point, at most, of a number at an axis."""
_ROOM = 0.08
"""Of the values, above the greatest and below the least."""


@dataclass(frozen=True)
class Axis:
    """An axis.

    Args:
        low: its least value.
        high: its greatest.
        ticks: values that are named, each with its name.
        title: what it counts.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    title: str

    @classmethod
    def of(cls, values: Iterable[float], title: str, *, whole: bool = False) -> Axis:
        """Return an axis for values; with ``whole`` for numbers that are counted."""
        known = [one for one in values if math.isfinite(one)] or [0.0]
        low, high = min(known), max(known)
        if whole:
            return cls(low, max(high, low + 1), _named(_whole(low, high)), title)
        room = (high - low) * _ROOM or abs(high) * _ROOM / 4 or 1.0
        return cls(low - room, high + room, _named(ticks(low - room, high + room)), title)

    @classmethod
    def shares(cls, title: str) -> Axis:
        """Return an axis from 0 % to 100 %."""
        named = tuple((at / 4, f"{at * 25} %") for at in range(5))
        return cls(0.0, 1.0, named, title)

    def part(self, value: float) -> float:
        """Return how far along the axis a value is, from 0 to 1."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers from ``low`` to ``high``."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(one * power for one in _STEPS if one * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _whole(low: float, high: float) -> list[float]:
    step = max(1, math.ceil((high - low) / 6))
    return [low + n * step for n in range(int((high - low) // step) + 1)]


def _named(values: Sequence[float]) -> tuple[tuple[float, str], ...]:
    gaps = [b - a for a, b in zip(values, values[1:], strict=False)]
    step = min(gaps, default=1.0)
    digits = next((n for n in range(_DIGITS) if _has_digits(step, n)), None)
    if digits is not None and max(map(abs, values), default=0.0) < 1e7:
        return tuple((one, f"{one:,.{digits}f}") for one in values)
    for most in range(3, 18):  # digits that count, so many that no two names are the same
        names = [f"{one:.{most}g}" for one in values]
        if len({*names}) == len({*values}):
            break
    return tuple(zip(values, names, strict=True))


def _has_digits(step: float, digits: int) -> bool:
    return abs(round(step, digits) - step) <= 1e-6 * step


@dataclass(frozen=True)
class Frame:
    """Where values lie in a chart.

    Args:
        x: the axis across.
        y: the axis up.
    """

    x: Axis
    y: Axis

    def across(self, value: float) -> str:
        """Return the place of a value of ``x``."""
        return f"{_SIDE + self.x.part(value) * (100 - 2 * _SIDE):.2f}%"

    def down(self, value: float) -> float:
        """Return the place of a value of ``y``."""
        return round(_BOTTOM - self.y.part(value) * (_BOTTOM - _TOP), 1)

    def level(self, value: float, class_: str) -> Markup:
        """Return a line at a value of ``y``, from side to side."""
        at = self.down(value)
        return tag("line", x1="0", x2="100%", y1=at, y2=at, class_=class_)

    def moment(self, value: float, class_: str) -> Markup:
        """Return a line at a value of ``x``, from top to bottom."""
        at = self.across(value)
        return tag("line", x1=at, x2=at, y1=_TOP, y2=_BOTTOM, class_=class_)

    def zone(self, value: float, *, above: bool) -> Markup:
        """Return the half in which values are good enough."""
        at = self.down(value)
        top, height = (0.0, at) if above else (at, HEIGHT - at)
        return tag("rect", x="0", y=top, width="100%", height=round(height, 1), class_="good")

    def path(self, points: Sequence[tuple[float, float]], class_: str) -> list[Markup]:
        """Return lines from point to point."""
        places = [(self.across(x), self.down(y)) for x, y in points]
        return [
            tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)
            for (x1, y1), (x2, y2) in zip(places, places[1:], strict=False)
        ]

    def mark(self, x: float, y: float | None, shape: str, told: str, label: str = "") -> Markup:
        """Return a mark with what is told when a pointer is on it.

        Args:
            x: where it is.
            y: see ``x``; ``None`` is at the bottom.
            shape: one of ``SHAPES``, and classes.
            told: one line.
            label: beside it.
        """
        down = HEIGHT - 8 if y is None else self.down(y)
        said = tag("text", label, y=-9, class_="middle label") if label else None
        drawn = tag("path", d=SHAPES[shape.split()[0]], class_=f"mark {shape}")
        inside = (tag("title", told), drawn, said)
        return tag("svg", *inside, x=self.across(x), y=down, class_="at tip")

    def dot(self, x: float, y: float | None, look: str) -> Markup:
        """Return a mark of which nothing is told, where there are very many."""
        down = HEIGHT - 8 if y is None else self.down(y)
        return tag("circle", cx=self.across(x), cy=down, r=3, class_=f"mark {look}")

    def drawn(self, *marks: Content, told: str) -> Markup:
        """Return the chart.

        Args:
            marks: in it, the lowest first.
            told: for those who do not see it.
        """
        names = (
            tag("text", name, x="100%", y=self.down(at) + 4, class_="end")
            for at, name in self.y.ticks
        )
        grid = [self.level(at, "grid") for at, _ in self.y.ticks]
        below = [
            tag("text", name, x=self.across(at), y=HEIGHT + 16, class_="middle")
            for at, name in self.x.ticks
        ]
        plot = tag(
            "svg", grid, below, *marks, height=HEIGHT + 22, class_="plot", role="img",
            aria_label=told,
        )  # fmt: skip
        scale = tag("svg", names, height=HEIGHT + 22, class_="scale", aria_hidden="true")
        return tag(
            "div",
            tag("div", self.y.title, class_="axis"),
            tag("div", scale, plot, class_="chart"),
            tag("div", self.x.title, class_="axis across"),
        )


SHAPES = {
    "dot": "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z",
    "diamond": "M0-5.5 5.5 0 0 5.5-5.5 0z",
    "cross": "M-4-4 4 4M4-4-4 4",
    "small": "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",
    "ring": "M-9 0a9 9 0 1 0 18 0a9 9 0 1 0-18 0z",
}
"""Paths around the middle of a mark."""


def legend(*keys: tuple[str, Content]) -> Markup:
    """Return what the marks and lines of a chart mean.

    Args:
        keys: a shape with its classes, or ``"line"`` with them, each with what it means.
    """
    return tag("ul", [tag("li", _key(shape), said) for shape, said in keys], class_="legend")


def _key(shape: str) -> Markup:
    first = shape.split()[0]
    if first == "line":
        inside = tag("line", x1=0, x2=22, y1=8, y2=8, class_=shape.partition(" ")[2])
    else:
        path = tag("path", d=SHAPES[first], class_=f"mark {shape}")
        inside = tag("g", path, transform="translate(11 8)")
    return tag("svg", inside, width=22, height=16, aria_hidden="true")


def bar(part: float, class_: str = "") -> Markup:
    """Return a bar in a cell, which begins at 0."""
    width = f"{100 * min(1.0, max(0.0, part)):.1f}%"
    drawn = tag("rect", width=width, height=8, rx=1.5, class_=class_ or None)
    return tag("svg", drawn, height=8, class_="bar", aria_hidden="true")


def steps(values: Sequence[tuple[float, float]]) -> Markup:
    """Return a small picture of shares that grow in stairs.

    Args:
        values: when, from 0 to 1, and how much, from 0 to 1.
    """
    path = "M0 20"
    for at, part in values:
        path += f"H{at * 100:.1f}V{20 - min(1.0, part) * 18:.1f}"
    drawn = tag("path", d=f"{path}H100", class_="stairs")
    return tag(
        "svg", drawn, viewBox="0 0 100 22", preserveAspectRatio="none", class_="spark",
        aria_hidden="true",
    )  # fmt: skip
