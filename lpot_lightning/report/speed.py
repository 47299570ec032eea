"""Speed with its spread, and size."""

from __future__ import annotations

from lpot_lightning.report.charts import bar
from lpot_lightning.report.markup import Markup, joined, section, tag
from lpot_lightning.report.numbers import change_of_size
from lpot_lightning.timing.ratio import Ratio, as_speedup


def speed_section(
    speed: Ratio | None, size_ratio: float | None, of: tuple[str, str]
) -> Markup | None:
    """Return how fast and how small a model is beside the one that it was made of.

    Args:
        speed: seconds of the other over its own.
        size_ratio: bytes of the other over its own.
        of: what the other one is called, and what it is.
    """
    if speed is None and size_ratio is None:
        return None
    other, own = of
    return section(
        "speed",
        "Speed and size",
        None if speed is None else _speed(speed, other),
        None if size_ratio is None else _sizes(size_ratio, other, own),
        lede=None if speed is None else _lede(speed, other, own),
    )


def _lede(speed: Ratio, other: str, own: str) -> str:
    bar = (
        f"Both ran in turns on this machine. The bar is the {own} model's speed-up over {other} for"
        " the median of all pairs"
    )
    sure = "the line through it holds the true value 95 of 100 times"
    return f"{bar}; {'they are too few to tell how sure it is' if speed.spread is None else sure}."


def _speed(speed: Ratio, other: str) -> Markup:
    low, high = speed.spread or (speed.middle, speed.middle)
    end = max(high * 1.1, 1.25)

    def at(value: float) -> str:
        return f"{100 * value / end:.2f}%"

    ends = [
        tag("line", x1=at(one), x2=at(one), y1=10, y2=22, class_="whisker") for one in (low, high)
    ]
    told = as_speedup(speed.middle, speed.spread)
    drawn = tag(
        "svg",
        tag("rect", x=0, y=8, width=at(speed.middle), height=16, rx=2, class_="int8-bar"),
        tag("line", x1=at(1.0), x2=at(1.0), y1=0, y2=32, class_="same"),
        tag("line", x1=at(low), x2=at(high), y1=16, y2=16, class_="whisker"),
        ends,
        tag("text", f"1× (as fast as {other})", x=at(1.0), y=46, class_="middle"),
        height=52,
        class_="ratio",
        role="img",
        aria_label=told,
    )
    return joined((tag("p", tag("b", "Speed-up: "), told), drawn))


def _sizes(ratio: float, other: str, own: str) -> Markup:
    rows = ((other, 1.0, "fp32-bar"), (own, 1 / ratio, "int8-bar"))
    most = max(part for _, part, _ in rows)
    return joined(
        (
            tag("p", tag("b", "Size: "), "x ".join(change_of_size(ratio))),
            [
                tag("div", tag("span", name), bar(part / most, class_), tag("span", f"{part:.0%}"),
                    class_="sized")
                for name, part, class_ in rows
            ],
        )
    )  # fmt: skip
