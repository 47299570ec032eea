"""Numbers for people, with as many digits as they need."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite

_MOST_DIGITS = 12
_SIZES = ("bytes", "kB", "MB", "GB", "TB")
_BINARY_SIZES = ("bytes", "KiB", "MiB", "GiB", "TiB")


def shown_number(value: float) -> str:
    """Return four digits behind the point; for small numbers four that count.

    Example::

        shown_number(0.98765)  # "0.9877"
        shown_number(0.000012345)  # "1.234e-05"
    """
    small = 0 < abs(value) < 1e-3
    return f"{value:.4g}" if small else _without_minus_zero(f"{value:.4f}")


def shown_size(count: float, *, binary: bool = False) -> str:
    """Return a number of bytes with a unit that fits.

    Args:
        count: of bytes.
        binary: whether units are powers of two, as limits are.

    Example::

        shown_size(1_234_567)  # "1.23 MB"
        shown_size(3 << 19, binary=True)  # "1.5 MiB"
    """
    step, names = (1024, _BINARY_SIZES) if binary else (1000, _SIZES)
    power = 0
    while abs(count) >= step and power < len(names) - 1:
        count, power = count / step, power + 1
    return f"{count:.{3 if abs(count) < 999.5 else 4}g} {names[power]}"


def told_apart(
    one: float, other: float, usual: Callable[[float], str] = shown_number
) -> tuple[str, str]:
    """Return both as usual; where they differ and do not look so, with the digits that tell.

    Args:
        one: a number.
        other: the one that it is compared with.
        usual: how a number is shown that stands alone.

    Example::

        told_apart(0.92, 0.93)  # ("0.9200", "0.9300")
        told_apart(3.32164, 3.32161)  # ("3.32164", "3.32161")
    """
    shown = usual(one), usual(other)
    if one == other or shown[0] != shown[1]:
        return shown
    for digits in range(5, _MOST_DIGITS + 5):
        first, second = (f"{each:#.{digits}g}".rstrip(".") for each in (one, other))
        if first != second:
            return first, second
    return shown


def drop_and_allowed(drop: float, allowed: float, *, share: bool) -> tuple[str, str]:
    """Return both with the same digits, and so many that they tell what is true of them.

    Args:
        drop: how much worse something is.
        allowed: how much is allowed.
        share: whether they are shares, which are shown in percent.

    Example::

        drop_and_allowed(0.0, 0.01, share=True)  # ("0.00%", "1.00%")
        drop_and_allowed(0.00002, 0.00005, share=True)  # ("0.0020%", "0.0050%")
    """
    first, form = (2, "%") if share else (4, "f")
    for digits in range(first, _MOST_DIGITS):
        shown = tuple(_without_minus_zero(f"{one:.{digits}{form}}") for one in (drop, allowed))
        if _tells(shown[0], shown[1], drop, allowed):
            break
    return shown[0], shown[1]


def _tells(drop: str, allowed: str, exact_drop: float, exact_allowed: float) -> bool:
    """Whether a goal is not shown as 0, with two digits that count, and a drop beyond it is so."""
    if not isfinite(exact_drop):
        return True
    digits = allowed.strip("-%").replace(".", "").lstrip("0")
    told = exact_allowed == 0 or len(digits) > 1
    beyond = float(drop.rstrip("%")) > float(allowed.rstrip("%"))
    return told and (beyond or exact_drop <= exact_allowed + 1e-9 * abs(exact_allowed))


def _without_minus_zero(text: str) -> str:
    return text if text.strip("-0.%") else text.lstrip("-")
