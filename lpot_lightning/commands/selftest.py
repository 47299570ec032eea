"""Kills, broken disks and damaged files, tried where the user works."""

from __future__ import annotations

import argparse
import sys

from lpot_lightning.errors import LpotError
from lpot_lightning.selftest.trying import table, try_out


def selftest(asked: argparse.Namespace) -> str:
    """Return the table of what was tried.

    Raises:
        LpotError: if nothing could be tried, or something went wrong; then the table is on stdout.
    """
    rows = try_out(asked.folder, asked.kills, asked.seed, _say)
    if all(one.good for one in rows):
        return f"{table(rows)}\n\nnothing lost, nothing destroyed, nothing accepted wrongly"
    sys.stdout.write(f"{table(rows)}\n")
    raise LpotError(
        f"`{asked.folder}` did not keep what was written there: see the table; work on a local"
        " disk, or report it with the table if it is one"
    )


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
