"""What is read is of the type that it is said to be, or it is named."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import pytest

from lpot_lightning.machine.typed import NotNegative, Positive, check_typed


@dataclass(frozen=True)
class Inner:
    count: int
    share: NotNegative = 0.0


@dataclass(frozen=True)
class Outer:
    name: str
    inner: tuple[Inner, ...]
    where: Path | None = None


class Line(TypedDict):
    ops: list[str]
    cost: Positive


GOOD = [
    (1, float),
    (2.5, float | None),
    (None, float | None),
    ("met", Literal["met", "not_met"]),
    ((1.0, 2), tuple[float, float]),
    ({"a": [1]}, Mapping[str, list[int]]),
    (Outer("a", (Inner(1), Inner(2, 0.5)), Path("x")), Outer),
    ({"ops": ["a"], "cost": 0.1}, Line),
    (object(), Any),
]
BAD = [
    (True, float, "`it` is `True`; allowed: a number"),
    ("1", float, "a number"),
    (1.0, int, "a whole number"),
    (None, float, "a number"),
    ("mett", Literal["met"], "`it` is `mett`; allowed: ('met',)"),
    ((1.0,), tuple[float, float], "2 values"),
    ("ab", list[str], "a list"),
    ({"a": ["1"]}, Mapping[str, list[int]], "`it.a[0]` is `1`; allowed: a whole number"),
    ({1: 1}, dict[str, int], "`it: a key` is `1`; allowed: a text"),
    (Outer("a", (Inner(1.5),)), Outer, "`it.inner[0].count` is `1.5`"),
    (
        Outer("a", (Inner(1, -1.0),)),
        Outer,
        "`it.inner[0].share` is `-1.0`; allowed: is not negative",
    ),
    (Outer("a", (), "x"), Outer, "`it.where` is `x`; allowed: a Path"),
    ({"ops": ["a"]}, Line, "allowed: a mapping of ops, cost"),
    ({"ops": ["a"], "cost": 0.0}, Line, "`it.cost` is `0.0`; allowed: is positive"),
    (float("nan"), Annotated[float, lambda one: one == one], "`it` is `nan`"),
]


@pytest.mark.parametrize(("value", "kind"), GOOD)
def test_what_fits_is_let_pass(value, kind):
    check_typed(value, kind, "it")


@pytest.mark.parametrize(("value", "kind", "said"), BAD)
def test_what_does_not_fit_is_named(value, kind, said):
    with pytest.raises(TypeError) as told:
        check_typed(value, kind, "it")
    assert said in str(told.value)


def test_what_is_known_is_not_looked_into():
    check_typed(Outer("a", (Inner(1.5),)), Outer, "it", (Inner,))
