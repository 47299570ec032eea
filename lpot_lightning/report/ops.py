"""The ops: how much each hurts, what it became, and why."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from lpot_lightning.report.charts import bar
from lpot_lightning.report.facts import OpFacts, TuningFacts
from lpot_lightning.report.markup import (
    Content,
    Markup,
    code,
    joined,
    joined_by,
    named,
    number_cell,
    section,
    shortened,
    table,
    tag,
    words,
)
from lpot_lightning.report.numbers import NONE, error, ms, share
from lpot_lightning.report.rungs import badge
from lpot_lightning.tuning.causes import OUTPUT_ERROR, Cause
from lpot_lightning.tuning.repair import Repair

_ACCURACY = "for the accuracy"


def ops_section(tuning: TuningFacts) -> Markup | None:
    """Return the table of ops; where they were ranked, the one that hurts most first."""
    if not tuning.ops:
        return None
    ordered = sorted(tuning.ops, key=_worst_first)
    has_damage = any(one.damage is not None for one in ordered)
    has_times = any(one.int8 is not None for one in ordered)
    finite = [one.damage for one in ordered if one.damage is not None and math.isfinite(one.damage)]
    total = math.fsum(finite)
    head = _head(has_damage, has_times)
    rows = (_row(one, total, has_damage, has_times) for one in ordered)
    return section(
        "ops",
        "Ops",
        table(head, rows, class_="sortable ops"),
        lede=_lede(has_damage, has_times, any(one.cause is not None for one in ordered)),
    )


def _worst_first(op: OpFacts) -> tuple[bool, bool, float, str]:
    if op.damage is None:
        return True, False, 0.0, op.name
    finite = math.isfinite(op.damage)
    return False, finite, -op.damage if finite else 0.0, op.name


def _lede(has_damage: bool, has_times: bool, has_causes: bool) -> str:
    damage = (
        "The error of the output is what an op alone in int8, before any repair, does to what the"
        " model gives on one calibration batch. "
    )
    causes = "“Its error”, on the right, is that of what the op itself gives. "
    times = (
        "Times are those of one step, the way to integers and back included; those in int8 are of"
        " what the op was in the first trial."
    )
    unranked = "How much each op of this model hurts was not measured. "
    told = (damage if has_damage else unranked) + (causes if has_damage and has_causes else "")
    return told + (times if has_times else "")


def _head(has_damage: bool, has_times: bool) -> Iterator[tuple[str, str]]:
    yield from (("op", "text"), ("became", "text"))
    if has_damage:
        yield from (("share of all", "text"), (OUTPUT_ERROR, "number"))
    if has_times:
        yield from (("ms in int8", "number"), ("ms in fp32", "number"))
    yield "why, and what helps", "text"


def _row(op: OpFacts, total: float, has_damage: bool, has_times: bool) -> Markup:
    cells = [tag("td", code(op.name), class_="name"), tag("td", badge(op.rung))]
    if has_damage:
        cells += _damage(op.damage, total)
    if has_times:
        cells += [
            number_cell(ms(op.int8), op.int8, "ms in int8"),
            number_cell(ms(op.fp32), op.fp32, "in fp32"),
        ]
    return tag("tr", cells, tag("td", _why(op), class_="why"))


def _damage(damage: float | None, total: float) -> list[Markup]:
    finite = damage is not None and math.isfinite(damage)
    part = damage / total if damage is not None and finite and total else 0.0
    order = 2.0 if damage is not None and not finite else part if finite else -1.0
    shown = (bar(part), tag("span", share(part))) if finite else None
    return [
        tag("td", shown, class_="share", data_v=repr(order)),
        number_cell(error(damage), damage if finite else order, OUTPUT_ERROR)
        if damage is not None
        else tag("td", NONE, class_="number none", data_v=repr(order)),
    ]


def _why(op: OpFacts) -> Iterator[Content]:
    """Yield why an op is what it is, one paragraph each."""
    cause = op.cause
    if cause is None:
        yield tag("p", words(op.why)) if op.why else None
    else:
        if op.why.startswith(_ACCURACY):
            yield tag("p", f"{op.rung.value} {_ACCURACY}")
        yield from _cause(cause, shown=op.damage is not None)
    if op.repairs and not (cause is not None and cause.repaired):
        yield tag("p", "Repaired by ", joined_by(", ", map(_repair, op.repairs)))


def _cause(cause: Cause, *, shown: bool) -> Iterator[Content]:
    """Yield what stands in the way, what was done about it, and what can be.

    Args:
        cause: of an op.
        shown: whether what helps is shown at once, and not only when it is asked for.
    """
    yield tag("p", tag("b", cause.kind.value), ": ", words(shortened(cause.found, 600)))
    if cause.repaired:
        yield tag("p", "Repaired: ", words(shortened(cause.repaired, 600)))
    if cause.remedy:
        helps = tag("p", words(shortened(cause.remedy, 600)))
        yield tag("details", tag("summary", "What helps"), helps, open=shown)


def _repair(repair: Repair) -> Markup:
    what = repair.what.replace("_", " ")
    return joined((f"{what} ({OUTPUT_ERROR} {error(repair.before)} → {error(repair.after)})",))


def excluded_section(excluded: Mapping[str, str], causes: Mapping[str, Cause]) -> Markup | None:
    """Return what cannot be int8, or is no graph, by its reason.

    Args:
        excluded: what cannot be int8, with the reason.
        causes: what stands in the way, by the same names and those of modules.
    """
    names: dict[tuple[str, str], list[str]] = {}
    for name in dict.fromkeys((*excluded, *causes)):
        cause = causes.get(name)
        reason = excluded.get(name) or ("" if cause is None else cause.found)
        names.setdefault((reason, "" if cause is None else cause.remedy), []).append(name)
    if not names:
        return None
    helps = any(remedy for _, remedy in names)
    head = (("what", "text"), ("why", "text"), *((("what helps", "text"),) if helps else ()))
    rows = (_excluded(those, *told, helps=helps) for told, those in names.items())
    return section(
        "excluded",
        "What stays in floating point",
        table(head, rows, class_="reasons"),
        lede="Whatever is asked for, these are not int8, or run as they are written.",
    )


def _excluded(names: Iterable[str], reason: str, remedy: str, *, helps: bool) -> Markup:
    return tag(
        "tr",
        tag("td", joined_by(", ", map(named, names)), class_="name"),
        tag("td", words(shortened(reason, 600)), class_="why"),
        _remedy(remedy) if helps else None,
    )


def _remedy(remedy: str) -> Markup:
    told = "What helps:" if remedy else None
    return tag("td", words(shortened(remedy, 600)), class_="why", data_c=told)
