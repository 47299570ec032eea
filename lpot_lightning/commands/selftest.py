"""Kills, broken disks and damaged files, tried where the user works."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from lpot_lightning.commands.answer import CommandAnswer
from lpot_lightning.errors import LpotError
from lpot_lightning.selftest.trying import table, try_out

_GOOD = "nothing lost, nothing destroyed, nothing accepted wrongly"


def selftest(asked: argparse.Namespace) -> CommandAnswer:
    """Return what was tried, and what went wrong.

    Raises:
        LpotError: if nothing could be tried.
    """
    rows = try_out(asked.folder, asked.kills, asked.seed, _say)
    good = all(one.good for one in rows)
    error = (
        None
        if good
        else LpotError(
            f"`{asked.folder}` did not keep what was written there: see the table; work on a local"
            " disk, or report it with the table if it is one"
        )
    )
    return CommandAnswer(
        lambda: f"{table(rows)}\n\n{_GOOD}" if good else table(rows),
        lambda: {"good": good, "tried": [asdict(one) for one in rows]},
        error,
    )


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
