"""The option `--json` of a jsonargparse parser."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from lightning.pytorch.utilities import rank_zero_only

from lpot_lightning.commands.answer import WrongArguments, json_text, plain_error

STDOUT = "-"
"""What the option means where it stands alone."""


def is_first() -> bool:
    """Whether this is the process that speaks for all that train together."""
    return getattr(rank_zero_only, "rank", 0) == 0


def tell_programs_what_is_wrong(parser: Any) -> None:
    """Let a parser say in JSON, too, what is wrong with arguments."""
    usual = parser.error

    def error(message: str, ex: Exception | None = None) -> NoReturn:
        sys.stdout.write(json_text(plain_error(WrongArguments(message))))
        usual(message, ex)
        raise AssertionError

    parser.error = error


def stands_alone(name: str, arguments: Sequence[str]) -> bool:
    """Whether the option ``name`` is given without a value, and so means stdout.

    Example::

        stands_alone("--json", ["--json", "out.json"])  # False
    """
    behind = dict(zip(arguments, [*arguments, "-"][1:], strict=True))
    return behind.get(name, "").startswith("-")


def takes_no_value(parser: Any, name: str) -> None:
    """Let the option ``name`` stand alone, too: then it means stdout."""
    option = parser._option_string_actions[name]
    option.nargs, option.const = "?", STDOUT
