"""RESULTS.md, made of the rows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from families import FAMILIES
from rows import BATCHES, DONE, FP32, TORCH, Row
from table import markdown
from verdicts import Line, Measure, Rows, lines, measures
from ways import WAYS

NONE = "-"
HOW = Path(__file__).with_name("how_to_read.md")


def page(rows: Rows) -> str:
    """Return the page of all rows that there are."""
    found = list(lines(rows))
    parts = [
        "# int8, compared\n",
        "`make compare` makes this page; nothing in it is written by hand.\n",
        about(rows.values()),
        HOW.read_text(),
        "## In short\n",
        summary(rows) + "\n",
        "## Where lpot_lightning is ahead, and where it is behind\n",
        AGAINST,
        against(found) + "\n",
        *(f"## {net}\n\n{of_net(net, rows)}\n" for net in FAMILIES if _rows_of(net, rows)),
    ]
    return "\n".join(parts)


AGAINST = """\
The best of ours against the best of all others, net by net. Only models that meet the goal of 1 %
take part, unless a goal is named. Up to 5 % of a time or a size are even. In brackets: ours;
theirs, whose.
"""


def _rows_of(net: str, rows: Rows) -> list[Row]:
    return [row for (name, _), row in rows.items() if name == net]


def about(rows: Iterable[Row]) -> str:
    """Say where, when and with what the rows were made."""
    every = list(rows)
    dates = sorted({row.date for row in every if row.date})
    when = " to ".join(dict.fromkeys([dates[0], dates[-1]])) if dates else "no rows yet"
    machines = sorted({row.machine for row in every if row.machine})
    versions = sorted({f"{name} {one}" for row in every for name, one in row.versions.items()})
    return f"{'; '.join([when, *machines, ', '.join(versions)])}.\n"


SUMMARY = (
    "way",
    "runs in",
    "goal met",
    "accuracy lost, median",
    "most",
    "in float",
    "seconds, median",
    "most",
    *(f"batch {batch}: speed-up" for batch in BATCHES),
    "times smaller",
)


def summary(rows: Rows) -> str:
    """Return a row for each way and runtime, over all nets."""
    grouped: dict[tuple[str, str], list[Line]] = {}
    for line in lines(rows):
        grouped.setdefault((line.row.way, line.form.runtime), []).append(line)
    order = {way.label: number for number, way in enumerate(WAYS)}
    names = sorted(grouped, key=lambda name: order.get(name[0], len(order)))
    cells = [[*name, *_over_nets(grouped[name])] for name in names]
    table = markdown(SUMMARY, cells)
    return "\n".join([table, "", *_not_there(rows)]) if _not_there(rows) else table


def _over_nets(some: Sequence[Line]) -> list[str]:
    lost = [line.lost for line in some]
    seconds = [line.form.seconds for line in some]
    speedups = [[line.row.speedup(batch, line.form) for line in some] for batch in BATCHES]
    return [
        f"{sum(line.meets(line.goal) for line in some)} of {len(some)}",
        percent(statistics.median(lost)),
        percent(max(lost)),
        f"{sum(line.form.lost for line in some)} of {sum(line.row.layers for line in some)}",
        f"{statistics.median(seconds):.1f}",
        f"{max(seconds):.1f}",
        *(mean_of_ratios(one) for one in speedups),
        mean_of_ratios([line.row.fp32_mib / line.form.mib for line in some]),
    ]


def percent(share: float) -> str:
    """Return a share as percent; no minus before zero."""
    return f"{100 * share + 0.0:.2f} %".replace("-0.00", "0.00")


def mean_of_ratios(ratios: Iterable[float | None]) -> str:
    """Return the geometric mean of those that are known."""
    known = [math.log(one) for one in ratios if one]
    return f"{math.exp(statistics.fmean(known)):.2f}" if known else NONE


def _not_there(rows: Rows) -> list[str]:
    """Say which rows there are not, and why."""
    told = [
        f"- {way} on {net}: {row.status}: {row.reason}"
        for (net, way), row in rows.items()
        if row.status != DONE
    ]
    told += [
        f"- {way} on {net} in {runtime}: {why}"
        for (net, way), row in rows.items()
        for runtime, why in row.failures.items()
    ]
    waiting = [one for net in FAMILIES if (one := _waiting(net, rows))]
    return told + ([f"- not run yet: {'; '.join(waiting)}"] if waiting else [])


def _waiting(net: str, rows: Rows) -> str:
    """Say which ways have no row of a net; nothing for none, the net alone for all."""
    left = [way.label for way in WAYS if (net, way.label) not in rows]
    return f"{net}: {', '.join(left)}" if 0 < len(left) < len(WAYS) else net * bool(left)


AGAINST_HEADS = ("measure", "nets", "ahead", "even", "behind", "where it is behind")


def against(found: Sequence[Line]) -> str:
    """Return a row for each measure."""
    return markdown(AGAINST_HEADS, [_against(measure, found) for measure in measures()])


def _against(measure: Measure, found: Sequence[Line]) -> list[str]:
    matches = measure.matches(found)
    outcomes = [match.outcome(measure.even) for match in matches]
    behind = [
        measure.told(match)
        for match, outcome in zip(matches, outcomes, strict=True)
        if outcome == "behind"
    ]
    counts = [outcomes.count(one) for one in ("ahead", "even", "behind")]
    return [measure.name, *map(str, [len(matches), *counts]), "; ".join(behind) or NONE]


NET_HEADS = (
    "way",
    "runs in",
    "accuracy lost",
    "seconds",
    "in float",
    "MiB",
    *(f"batch {batch}: {what}" for batch in BATCHES for what in ("ms", "fp32, ms", "speed-up")),
)


def of_net(net: str, rows: Rows) -> str:
    """Return what is told of a net: a line about it, and a row for each int8 model."""
    of_it = _rows_of(net, rows)
    done = [row for row in of_it if row.status == DONE]
    told = [_about_net(done[0], done)] if done else []
    cells = [_cells(Line(row, form), done) for row in of_it for form in row.forms]
    cells += [[row.way, *[NONE] * (len(NET_HEADS) - 1)] for row in of_it if row.status != DONE]
    return "\n".join([*told, markdown(NET_HEADS, cells)])


def _about_net(one: Row, done: Sequence[Row]) -> str:
    times = []
    for batch in BATCHES:
        found = [value for row in done if (value := row.ms(batch, FP32 + TORCH)) is not None]
        if found:
            times.append(
                f"{statistics.median(found):.2f} ms ({min(found):.2f}-{max(found):.2f} in the"
                f" processes of the ways) at batch {batch}"
            )
    return (
        f"fp32 in torch: accuracy {one.fp32:.4f} on {one.images} images, {one.layers} layers,"
        f" {one.fp32_mib:.2f} MiB;"
        f" {', '.join(times)}.\n"
    )


def _cells(line: Line, beside: Sequence[Row]) -> list[str]:
    row, form = line.row, line.form
    lost = percent(line.lost)
    cells = [
        row.way,
        form.runtime,
        lost if line.meets(line.goal) else f"**{lost}**",
        f"{form.seconds:.1f}",
        f"{form.lost} of {row.layers}",
        f"{form.mib:.2f}",
    ]
    for batch in BATCHES:
        fp32 = fp32_ms(batch, form.runtime, [row, *beside])
        own = row.ms(batch, form.runtime)
        cells += [number(own), number(fp32), number(row.speedup(batch, form))]
    return cells


def fp32_ms(batch: int, runtime: str, some: Iterable[Row]) -> float | None:
    """Return the milliseconds of the fp32 net in a runtime, of the first row that has timed it."""
    found = (row.ms(batch, FP32 + runtime) for row in some)
    return next((one for one in found if one is not None), None)


def number(value: float | None) -> str:
    """Return a number with two digits behind the point."""
    return NONE if value is None else f"{value:.2f}"
