"""How errors name several things."""

from __future__ import annotations

import pytest

import lpot_lightning
from lpot_lightning.errors import in_one_line, in_short, quoted


def test_names_are_quoted_and_of_many_the_first_are_shown() -> None:
    assert quoted(["a", "b", "c"]) == quoted(iter("abc"), 3) == "`a`, `b`, `c`"
    assert quoted(["a", "b", "c"], 1) == "`a` and 2 more"
    assert quoted([]) == ""


def test_words_of_others_come_without_codes_of_terminals_and_without_advice() -> None:
    bold = "Weights only load failed. You have \x1b[1mtwo\x1b[0m.\n(1) …\n GLOBAL a.B was not"
    assert in_short(RuntimeError(bold)) == "it holds a `a.B`"
    assert in_short(RuntimeError("\x1b[31mred\x1b[0m\nand more")) == "RuntimeError: red"
    assert in_short(KeyError()) == "KeyError"
    assert in_one_line(RuntimeError("\x1b[1mone\x1b[0m\n  two")) == "one two"
    assert in_one_line(RuntimeError("x" * 9), 4) == "xxxx…"


def test_names_that_are_not_there_are_told_with_the_one_that_is_meant() -> None:
    with pytest.raises(ImportError, match="Did you mean `QuantizationCallback`"):
        from lpot_lightning import QuantisationCallback  # noqa: F401
    with pytest.raises(AttributeError, match="no attribute `Quantize`. Did you mean `quantize`"):
        _ = lpot_lightning.Quantize
    assert not hasattr(lpot_lightning, "nothing_like_it")
