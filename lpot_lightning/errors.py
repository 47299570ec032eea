"""The errors that this package raises."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_WEIGHTS_ONLY = "Weights only load failed"
_REFUSED = re.compile(r"(?:GLOBAL|class) `?([\w.]+)")
"""How torch 2.13 names what it does not load with ``weights_only=True``, behind its advice."""


class LpotError(Exception):
    """Base of every error that lpot_lightning raises on purpose.

    Example::

        try:
            trainer.fit(model, datamodule=data)
        except LpotError as error:
            print(error)  # one sentence each: where, what came, what is allowed, what to do
    """


class ConfError(LpotError, ValueError):
    """The configuration asks for something that cannot be done.

    Several faults of a YAML are one error, of one line each.

    Attributes:
        faults: what is wrong, one text for each.

    Example::

        try:
            QuantizationCallback("ptq.yaml")
        except ConfError as error:
            print(len(error.faults), "to mend")
    """

    @property
    def faults(self) -> tuple[str, ...]:
        """Return what is wrong, one text for each."""
        return tuple(str(fault) for fault in self.args)

    def __str__(self) -> str:
        """Return all of it, one line for each."""
        return "\n".join(self.faults)


class NotYetError(ConfError):
    """The configuration asks for a part of LPOT that lpot_lightning does not have yet."""


class DataError(LpotError):
    """The data loaders give nothing, or nothing that can be used."""


class EvaluationError(LpotError):
    """The validation loop gives no accuracy to tune by."""


class QuantizationError(LpotError):
    """The model, or the way it is trained, cannot be quantized."""


class PruningError(LpotError):
    """The model, or the way it is trained, cannot be pruned."""


class ArtifactError(LpotError):
    """A file of a workspace is missing, damaged or belongs to something else."""


class BenchmarkError(LpotError):
    """A model, a function or a process that is to be timed fails."""


class ExportError(LpotError):
    """A model cannot be written in a form, or its file computes something else."""


class BusyError(ArtifactError):
    """The workspace is used by another run, which is named."""


def as_lines(error: LpotError) -> str:
    """Return what a command says of an error, one line for each fault."""
    faults = error.faults if isinstance(error, ConfError) else [error]
    return "".join(f"error: {fault}\n" for fault in faults)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name nearest to ``name``, ``None`` if there is none."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return near[0] if near else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean `x`?"`` for the known name nearest to ``name``, or ``""``."""
    near = nearest(name, known)
    return "" if near is None else f" Did you mean `{near}`?"


def quoted(names: Iterable[object], most: int | None = None) -> str:
    """Return names for people: "`a`, `b` and 1 more" for three of which ``most`` 2 are shown."""
    shown = [f"`{name}`" for name in names]
    more = f" and {len(shown) - most} more" if most is not None and len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def in_short(error: BaseException, most: int = 160) -> str:
    """Return the type and the first words of an error that is not ours."""
    lines = plainly(error).splitlines()
    first = next(iter(lines), "")
    refused = _REFUSED.search(" ".join(lines)) if _WEIGHTS_ONLY in first else None
    if refused:
        return f"it holds a `{refused[1]}`"
    return _shortened(f"{type(error).__name__}: {first}".rstrip(": "), most)


def in_one_line(error: BaseException, most: int = 600) -> str:
    """Return the words of an error that is not ours, whose type says nothing."""
    return _shortened(" ".join(plainly(error).split()), most)


def plainly(said: object) -> str:
    """Return what somebody else says, without the codes by which a terminal makes it bold."""
    return _CODES.sub("", str(said)).strip()


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
