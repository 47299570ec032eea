"""What is read is of the type that it is said to be, or it is named."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import pytest

from lpot_lightning.machine.typed import NotNegative, Positive, check_typed, look_up_hints


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


def test_hints_are_looked_up_before_anything_is_read(monkeypatch):
    @dataclass
    class Innermost:
        count: "int"

    class Held(TypedDict):
        many: list[Innermost]

    look_up_hints(dict[str, Held | None])
    monkeypatch.delattr("lpot_lightning.machine.typed.get_type_hints")
    check_typed({"a": {"many": [Innermost(1)]}}, dict[str, Held], "it")
    with pytest.raises(
        TypeError, match=r"`it\.a\.many\[0\]\.count` is `x`; allowed: a whole number"
    ):
        check_typed({"a": {"many": [Innermost("x")]}}, dict[str, Held], "it")


def test_all_that_is_read_by_hints_was_looked_up_by_import():
    script = (
        "from lpot_lightning.conf.reader import Conf\n"
        "from lpot_lightning.machine.typed import hints_of, look_up_hints\n"
        "from lpot_lightning.runs.tuning_result import TuningResult\n"
        "from lpot_lightning.runs.pruning_result import PruningResult\n"
        "from lpot_lightning.tuning.findings import _FORMS\n"
        "before = hints_of.cache_info().misses\n"
        "look_up_hints(Conf, TuningResult, PruningResult, *_FORMS.values())\n"
        "print(before > 30, hints_of.cache_info().misses - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "0"]
