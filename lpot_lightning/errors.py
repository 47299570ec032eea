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
    """The configuration asks for something that cannot be done."""


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


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean `x`?"`` for the known name nearest to ``name``, or ``""``."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean `{near[0]}`?" if near else ""


def quoted(names: Iterable[object], most: int | None = None) -> str:
    """Return names for people: "`a`, `b` and 1 more" for three of which ``most`` 2 are shown."""
    shown = [f"`{name}`" for name in names]
    more = f" and {len(shown) - most} more" if most is not None and len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def in_short(error: BaseException, most: int = 160) -> str:
    """Return the type and the first words of an error that is not ours."""
    text = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")
    return text if len(text) <= most else f"{text[:most]}…"
