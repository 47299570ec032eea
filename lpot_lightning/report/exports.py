"""The files for other runtimes, and how near each is to the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lpot_lightning.deploy.exported import Checked, Exported
from lpot_lightning.machine.numbers import shown_size
from lpot_lightning.report.markup import Content, Markup, code, number_cell, section, table, tag
from lpot_lightning.report.numbers import NONE, accuracy
from lpot_lightning.timing.ratio import as_speedup

_HEAD = (
    ("file", "text"),
    ("for", "text"),
    ("size", "number"),
    ("int8 ops", "number"),
    ("from the program", "number"),
    ("from the model", "number"),
    ("same answer", "number"),
    ("ms a batch", "number"),
    ("checked", "text"),
)


def exports_section(exports: Sequence[Exported]) -> Markup | None:
    """Return a row a file."""
    if not exports:
        return None
    return section(
        "exports",
        "Exports",
        table(_HEAD, map(_row, exports), class_="sortable"),
        lede="Where “checked” names a runtime, it has run the file right after writing, on"
        " calibration data, beside the program that was written and the model in torch: both errors"
        " are relative.",
    )


def _row(one: Exported) -> Markup:
    checked = one.checked
    return tag(
        "tr",
        tag("td", code(str(one.path)), class_="name"),
        tag("td", f"{one.form}, {one.target}"),
        number_cell(shown_size(one.bytes), one.bytes),
        number_cell(_ops(one), one.int8_ops),
        *_numbers(checked),
        tag("td", _told(one), class_="why"),
    )


def _ops(one: Exported) -> str:
    run = None if one.checked is None else one.checked.int8_ops
    return str(one.int8_ops) if run is None else f"{one.int8_ops}, run as {run}"


def _numbers(one: Checked | None) -> list[Markup]:
    if one is None:
        return [number_cell(NONE, -1.0)] * 4
    same = NONE if one.agreement is None else f"{one.agreement:.2%}"
    return [
        number_cell(f"{one.relative:.5f}", one.relative),
        number_cell(f"{one.from_int8:.5f}", one.from_int8),
        number_cell(same, -1.0 if one.agreement is None else one.agreement),
        number_cell(f"{one.ms:.3g}", one.ms),
    ]


def _told(one: Exported) -> Iterator[Content]:
    """Yield what ran the file, and what else there is to say."""
    if one.checked is None:
        yield tag("p", "not checked")
    else:
        yield tag("p", f"{one.checked.runtime}, {one.checked.samples} samples")
        if one.checked.speedup is not None:
            speed = one.checked.speedup
            yield tag("p", f"speed-up {as_speedup(speed.middle, speed.spread)} over torch")
    if one.accuracy is not None:
        beside = "" if one.int8_accuracy is None else f", in torch {accuracy(one.int8_accuracy)}"
        yield tag("p", code(one.monitor), f" {accuracy(one.accuracy)}{beside}")
    yield from (tag("p", note) for note in one.notes)
