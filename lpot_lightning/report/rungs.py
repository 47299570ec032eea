"""How each precision looks: a colour, and a short code for who sees none."""

from __future__ import annotations

from lpot_lightning.recipe import Rung
from lpot_lightning.report.markup import Content, Markup, tag

KEPT = "kept"
_CODES = {
    Rung.STATIC: ("int8", "8"),
    Rung.DYNAMIC: ("dynamic", "8d"),
    Rung.WEIGHT_ONLY: ("weights", "8w"),
    Rung.BF16: ("bf16", "16"),
    Rung.FP32: ("fp32", "32"),
}


def look_of(rung: Rung | None) -> tuple[str, str]:
    """Return the class and the code of a rung; ``None`` is what cannot be int8."""
    return (KEPT, "–") if rung is None else _CODES[rung]


def title_of(rung: Rung | None) -> str:
    """Return what a rung is called."""
    return "cannot be int8" if rung is None else rung.value


def badge(rung: Rung | None, *more: Content) -> Markup:
    """Return a rung as people see it in tables."""
    look, _ = look_of(rung)
    return tag("span", title_of(rung), *more, class_=f"rung {look}")
