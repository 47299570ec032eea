"""What a command answers, to people and to programs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lpot_lightning.errors import ConfError, LpotError, plainly

_PLACE = re.compile(r"(\S+:\d+): ")
"""With what a fault of a file begins."""


class WrongArguments(Exception):
    """What a parser says of arguments that no command has.

    Args:
        message: what is wrong.
        usage: what people are told.
    """

    def __init__(self, message: str, usage: str = "") -> None:
        super().__init__(message)
        self.usage = usage


class Interrupted(Exception):
    """A signal has ended the command."""


@dataclass(frozen=True)
class CommandAnswer:
    """What a command has found.

    Args:
        text: makes it for people.
        plain: makes it for programs: one mapping of plain values.
        error: what is wrong all the same; it is told, too, and the exit code is that of an error.
    """

    text: Callable[[], str]
    plain: Callable[[], Mapping[str, Any]]
    error: LpotError | None = None

    def as_text(self) -> str:
        """Return it for people."""
        return f"{self.text().rstrip()}\n"

    def as_json(self, where: str | None) -> str:
        """Return it as one JSON object; ``where`` is what the command was given."""
        told = {} if self.error is None else plain_error(self.error, where)
        return json_text({**self.plain(), **told})


def plain_error(error: BaseException, where: str | None = None) -> dict[str, Any]:
    """Return an error for programs.

    Args:
        error: of ours, or of others.
        where: what the command was given: where faults lie that name no line of a file.

    Example::

        plain_error(ArtifactError("no workspace"), "ws")["error"]["kind"]  # "ArtifactError"
    """
    faults = error.faults if isinstance(error, ConfError) else (plainly(error),)
    told = [{"message": one, "where": _place_in(one) or where} for one in faults]
    first = told[0]["where"] if told else where
    whole = {"kind": type(error).__name__, "message": "\n".join(faults), "where": first}
    return {"error": {**whole, "faults": told}}


def _place_in(fault: str) -> str | None:
    found = _PLACE.match(fault)
    return found[1] if found else None


def json_text(plain: Mapping[str, Any]) -> str:
    """Return one JSON object; a number that is not finite, which JSON has not, is ``null``."""
    return f"{json.dumps(_finite(plain), indent=1, allow_nan=False)}\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _finite(one) for name, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(one) for one in value]
    return value
