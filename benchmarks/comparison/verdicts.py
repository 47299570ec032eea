"""Where this package is ahead of the others, and where it is behind: computed of the rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from rows import BATCHES, DONE, TORCH, FormRow, Row
from ways import GOALS, OURS, WAYS, percent

GOAL, EVEN = GOALS[0], 0.05
NOBODY = "nobody"


@dataclass(frozen=True)
class Line:
    """An int8 model in a runtime, and the row that it is of."""

    row: Row
    form: FormRow

    @property
    def is_ours(self) -> bool:
        """Whether this package made it."""
        return self.row.way.startswith(OURS)

    @property
    def goal(self) -> float:
        """The share of the accuracy that it may lose; of a way that takes none, the larger one."""
        asked = next((way.goal for way in WAYS if way.label == self.row.way), None)
        return GOAL if asked is None else asked

    @property
    def lost(self) -> float:
        """The share of the fp32 accuracy that it has lost."""
        return self.row.lost(self.form)

    def meets(self, goal: float) -> bool:
        """Whether it has lost no more; the last digit of a float is none."""
        return self.lost <= goal + 1e-6

    @property
    def name(self) -> str:
        """Who made it, and where it runs."""
        return f"{self.row.way} in {self.form.runtime}"


Rows = Mapping[tuple[str, str], Row]
Value = Callable[[Line], float | None]


def lines(rows: Rows) -> Iterator[Line]:
    """Return a line for each int8 model."""
    for row in rows.values():
        if row.status == DONE:
            yield from (Line(row, form) for form in row.forms)


@dataclass(frozen=True)
class Match:
    """The best of ours and of the others on a net: less is better.

    Args:
        net: the family.
        ours: the value; infinite where none of ours meets the goal.
        theirs: the same of the others.
        who: which of the others it is.
    """

    net: str
    ours: float
    theirs: float
    who: str

    def outcome(self, even: float) -> str:
        """Return ``ahead``, ``even`` or ``behind``: by more than ``even``, a share or a number."""
        if math.isinf(self.theirs):
            return "ahead"
        room = even * self.theirs if even < 1 else even - 1
        if self.ours > self.theirs + room:
            return "behind"
        return "ahead" if self.ours < self.theirs - room else "even"


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What is compared.

    Args:
        name: for people.
        value: of a line; ``None`` where it is not known.
        form: how a value is told.
        goal: what a model has to meet to take part.
        ours: which lines of ours take part.
        theirs: which lines of the others take part.
        even: a share of the value up to which both are even; from 1 on, that less 1 in itself.
    """

    name: str
    value: Value
    form: Callable[[float], str]
    goal: float = GOAL
    ours: Callable[[Line], bool] = lambda _: True
    theirs: Callable[[Line], bool] = lambda _: True
    even: float = EVEN

    def matches(self, all_lines: Sequence[Line]) -> list[Match]:
        """Return a match for each net that both sides have lines of."""
        nets = dict.fromkeys(line.row.net for line in all_lines)
        found = (self._match(net, [one for one in all_lines if one.row.net == net]) for net in nets)
        return [match for match in found if match is not None]

    def _match(self, net: str, of_net: Sequence[Line]) -> Match | None:
        ours = [one for one in of_net if one.is_ours and one.goal == self.goal and self.ours(one)]
        others = [one for one in of_net if not one.is_ours and self.theirs(one)]
        theirs = [one for one in others if one.goal == self.goal]
        if not ours or not theirs:
            return None
        (our_value, _), (value, who) = self._best(ours), self._best(theirs)
        if math.isinf(our_value) and math.isinf(value):
            return None
        return Match(net, our_value, value, who)

    def _best(self, some: Sequence[Line]) -> tuple[float, str]:
        """Return the least value of lines that meet the goal, and whose it is."""
        good = [one for one in some if one.meets(self.goal)]
        values = [(value, one.name) for one in good if (value := self.value(one)) is not None]
        return min(values, default=(math.inf, NOBODY))

    def told(self, match: Match) -> str:
        """Return a match for people."""
        one, other = (
            "none meets the goal" if math.isinf(value) else self.form(value)
            for value in (match.ours, match.theirs)
        )
        return f"{match.net} ({one}; {other}, {match.who})"


def in_runtime(name: str) -> Callable[[Line], bool]:
    """Return what asks a line whether it runs there."""
    return lambda line: line.form.runtime == name


def ms_of(batch: int, line: Line) -> float | None:
    """Return the milliseconds of a call."""
    return line.row.ms(batch, line.form.runtime)


def ms(value: float) -> str:
    """Return milliseconds for people."""
    return f"{value:.2f} ms"


def measures() -> list[Measure]:
    """Return all that is compared, in the order of the table."""
    found = []
    for batch in BATCHES:
        name, value = f"ms at batch {batch}", partial(ms_of, batch)
        found += [
            Measure(name=f"{name}, fastest of all", value=value, form=ms),
            *(
                Measure(
                    name=f"{name}, both in {runtime}",
                    value=value,
                    form=ms,
                    ours=in_runtime(runtime),
                    theirs=in_runtime(runtime),
                )
                for runtime in ("ONNX Runtime", "OpenVINO")
            ),
            Measure(
                name=f"{name}, ours in torch, others by torch.compile",
                value=value,
                form=ms,
                ours=in_runtime(TORCH),
                theirs=in_runtime("torch.compile"),
            ),
        ]
    found += [
        Measure(
            name="seconds to get there, ours in torch",
            value=lambda line: line.form.seconds,
            form=lambda value: f"{value:.1f} s",
            ours=in_runtime(TORCH),
        ),
        Measure(
            name="MiB of the smallest",
            value=lambda line: line.form.mib,
            form=lambda value: f"{value:.2f} MiB",
        ),
    ]
    for goal in GOALS:
        found += [
            Measure(
                name=f"layers in float, goal {percent(goal)}",
                value=lambda line: float(line.form.lost),
                form=lambda value: f"{value:.0f}",
                goal=goal,
                even=1.0,
            ),
            Measure(
                name=f"accuracy lost, goal {percent(goal)}; gains are 0, 0.1 points even",
                value=lambda line: 100 * max(0.0, line.lost),
                form=lambda value: f"{value:.2f} %",
                goal=goal,
                even=1.1,
            ),
        ]
    return found
