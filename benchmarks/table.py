"""Tables in Markdown, and the times in them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import perf_counter

WARM_UP = 3


def markdown(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table of Markdown.

    Raises:
        ValueError: if a row has more or fewer cells than there are heads.
    """
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in rows:
        if len(row) != len(heads):
            raise ValueError(f"{len(row)} cells for {len(heads)} heads: {row}")
        lines.append("| " + " | ".join(map(str, row)) + " |")
    return "\n".join(lines)


def interleaved_ms(calls: Mapping[str, Callable[[], object]], rounds: int = 51) -> dict[str, float]:
    """Return the median milliseconds of each call, all of them run in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(WARM_UP + rounds):
        for name, call in calls.items():
            started = perf_counter()
            call()
            if number >= WARM_UP:
                seconds[name].append(perf_counter() - started)
    return {name: 1000 * statistics.median(found) for name, found in seconds.items()}


def repeated(run: Callable[[], float], rounds: int, enough: float = 20.0) -> float:
    """Return the median seconds of ``rounds`` runs, or of those begun before ``enough`` seconds."""
    seconds: list[float] = []
    while len(seconds) < rounds and sum(seconds) < enough:
        seconds.append(run())
    return statistics.median(seconds)
