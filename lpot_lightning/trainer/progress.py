"""A bar over the batches of a pass, where the user wants bars."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Callback, Trainer
from tqdm import tqdm

from lpot_lightning.machine.signals import check


class Progress:
    """Bars for one run; none where ``enable_progress_bar=False``."""

    def __init__(self, trainer: Trainer) -> None:
        shown = trainer.progress_bar_callback
        self._on = shown is not None and getattr(shown, "is_enabled", True)

    @contextmanager
    def over(self, label: str, batches: float) -> Iterator[Bar]:
        """Show a bar over ``batches`` batches, gone when the ``with`` ends.

        Args:
            label: what the pass is for.
            batches: how many batches are expected; infinite where nobody knows.
        """
        total = None if math.isinf(batches) else int(batches)
        with tqdm(total=total, desc=label, unit="batch", leave=False, disable=not self._on) as bar:
            yield Bar(bar)


def end_live_bar(trainer: Trainer) -> None:
    """Let a bar that a thread redraws rest, as its own ``teardown`` is about to.

    The thread of ``RichProgressBar`` looks for its bar among the trainer's callbacks (Lightning
    2.6), from where it is gone while ours run.
    """
    stop = getattr(trainer.progress_bar_callback, "_stop_progress", None)
    if callable(stop):
        stop()


class Bar(Callback):
    """Moves a tqdm bar on with each validation batch."""

    def __init__(self, bar: tqdm[Any]) -> None:
        self._bar = bar

    def on_validation_batch_end(self, *_: object, **__: object) -> None:
        """One more batch is done; a signal that the user's code swallowed ends the run here."""
        check()
        self._bar.update()
