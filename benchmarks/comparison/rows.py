"""The rows of the comparison: one file of JSON for each way on each net."""

from __future__ import annotations

import json
import os
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

BATCHES = (1, 8)
DONE, NOT_INSTALLED, FAILED = "done", "not installed", "failed"
FP32, TORCH = "fp32 in ", "torch"


@dataclass(frozen=True, kw_only=True)
class FormRow:
    """What is told of an int8 model in one runtime; see ``making.Form``."""

    runtime: str
    accuracy: float
    seconds: float
    lost: int
    mib: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a way came to on a net.

    Args:
        net: the family.
        way: the label of the way.
        key: what the trained net hangs on.
        status: ``DONE``, ``NOT_INSTALLED`` or ``FAILED``.
        reason: of the last two.
        date: on which it was made.
        machine: on which it was made, and how many models were made at a time.
        fp32: the accuracy of the fp32 net in torch.
        fp32_mib: size of its state.
        images: how many it is judged on.
        layers: how many could be int8.
        versions: of the tools.
        failures: why there is no form in a runtime.
        forms: the int8 model in each runtime.
        seconds: of one call in each round, by batch and by what was called.
    """

    net: str
    way: str
    key: str
    status: str
    reason: str = ""
    date: str = ""
    machine: str = ""
    fp32: float = 0.0
    fp32_mib: float = 0.0
    images: int = 0
    layers: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    forms: Sequence[FormRow] = ()
    seconds: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)

    def ms(self, batch: int, call: str) -> float | None:
        """Return the median milliseconds of a call; ``None`` if it was not timed."""
        found = self.seconds.get(str(batch), {}).get(call)
        return 1000 * statistics.median(found) if found else None

    def lost(self, form: FormRow) -> float:
        """Return the share of the fp32 accuracy that a form has lost; negative for a gain."""
        return (self.fp32 - form.accuracy) / self.fp32

    def speedup(self, batch: int, form: FormRow) -> float | None:
        """Return how many times as long torch's fp32 takes, in the same process, in turns."""
        fp32, int8 = self.ms(batch, FP32 + TORCH), self.ms(batch, form.runtime)
        return fp32 / int8 if fp32 and int8 else None


def path_of(cache: Path, net: str, way: str) -> Path:
    """Return where a row is kept."""
    return cache / f"{net}--{re.sub(r'[^A-Za-z0-9.]+', '-', way)}.json"


def write_row(cache: Path, row: Row) -> None:
    """Keep a row, whole or not at all."""
    path = path_of(cache, row.net, row.way)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(asdict(row), indent=1))
    os.replace(beside, path)


def read_row(cache: Path, net: str, way: str) -> Row | None:
    """Return a row that is kept, or ``None``."""
    path = path_of(cache, net, way)
    if not path.is_file():
        return None
    plain = json.loads(path.read_text())
    return Row(**{**plain, "forms": tuple(FormRow(**one) for one in plain["forms"])})


def is_done(row: Row | None, key: str) -> bool:
    """Whether a row need not be made again: it is of this trained net, and no failure."""
    return row is not None and row.status == DONE and row.key == key
