"""How errors name several things."""

from __future__ import annotations

from lpot_lightning.errors import quoted


def test_names_are_quoted_and_of_many_the_first_are_shown() -> None:
    assert quoted(["a", "b", "c"]) == quoted(iter("abc"), 3) == "`a`, `b`, `c`"
    assert quoted(["a", "b", "c"], 1) == "`a` and 2 more"
    assert quoted([]) == ""
