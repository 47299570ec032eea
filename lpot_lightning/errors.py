"""The errors that this package raises."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LpotError(Exception):
    """Base of every error that lpot_lightning raises on purpose.

    Example::

        try:
            trainer.fit(model)
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
    text = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")
    return text if len(text) <= most else f"{text[:most]}…"
