"""Results of a fit, where Lightning prints its own."""

from __future__ import annotations

import logging
import sys

import lightning_utilities.core.rank_zero as rank_zero
from lightning.pytorch import Trainer


def print_result(trainer: Trainer, table: str) -> None:
    """Print a table to stdout, as ``Trainer.validate`` does, from the first process alone.

    What is told on the way goes to Lightning's logger, and by default to stderr, which notebooks
    show in red. Where that logger is silenced, nothing is printed.

    Args:
        trainer: of the fit.
        table: lines for people.
    """
    if not trainer.is_global_zero or not rank_zero.log.isEnabledFor(logging.INFO):
        return
    sys.stderr.flush()
    sys.stdout.write(f"\n{table}\n")
    sys.stdout.flush()
