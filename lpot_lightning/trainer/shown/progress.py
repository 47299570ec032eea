"""A bar over the batches of a pass, of the kind that the Trainer's own is of."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from lpot_lightning.machine.signals import check
from lpot_lightning.trainer.package import either

Advance = Callable[[], object]


class Progress:
    """Bars for one run; none where ``enable_progress_bar=False``.

    They are Rich's beside a ``RichProgressBar``, with its columns, else tqdm's, which are widgets
    in a notebook that has ``ipywidgets``.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        shown = trainer.progress_bar_callback
        is_on = shown is not None and getattr(shown, "is_enabled", True)
        self._beside = shown if is_on else None

    @contextmanager
    def over(self, label: str, batches: float) -> Iterator[Bar]:
        """Show a bar over ``batches`` batches, gone when the ``with`` ends.

        Args:
            label: what the pass is for.
            batches: how many batches are expected; infinite where nobody knows.
        """
        beside: Any = self._beside
        if beside is None:
            yield Bar(lambda: None)
        elif isinstance(beside, either(RichProgressBar)):
            with _rich_bar(self._trainer, beside, label, batches) as advance:
                yield Bar(advance)
        else:
            with _tqdm_bar(beside, label, batches) as advance:
                yield Bar(advance)


@contextmanager
def _rich_bar(
    trainer: Trainer, beside: RichProgressBar, label: str, batches: float
) -> Iterator[Advance]:
    from lightning.pytorch.callbacks.progress.rich_progress import CustomProgress
    from rich import get_console  # both are there, where such a bar is

    columns = beside.configure_columns(trainer)
    console = beside._console or get_console()
    seen = console.is_terminal or console.is_jupyter  # else it would leave empty lines in a file
    with CustomProgress(*columns, console=console, transient=True, disable=not seen) as bars:
        style = beside.theme.description
        task = bars.add_task(f"[{style}]{label}" if style else label, total=batches)

        def advance() -> None:
            bars.advance(task)
            bars.soft_refresh()

        yield advance


@contextmanager
def _tqdm_bar(beside: ProgressBar, label: str, batches: float) -> Iterator[Advance]:
    with Tqdm(
        desc=label,
        total=None if math.isinf(batches) else int(batches),
        position=2 * getattr(beside, "process_position", 0),
        leave=False,
        dynamic_ncols=True,
        file=sys.stdout,
        bar_format=getattr(beside, "BAR_FORMAT", TQDMProgressBar.BAR_FORMAT),
    ) as bar:
        yield bar.update


def end_live_bar(trainer: Trainer) -> None:
    """Let a bar that a thread redraws rest, as its own ``teardown`` is about to.

    The thread of ``RichProgressBar`` looks for its bar among the trainer's callbacks (Lightning
    2.6), from where it is gone while ours run.
    """
    stop = getattr(trainer.progress_bar_callback, "_stop_progress", None)
    if callable(stop):
        stop()


class Bar(Callback):
    """Moves a bar on with each validation batch."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance

    def on_validation_batch_end(self, *_: object, **__: object) -> None:
        """One more batch is done; a signal that the user's code swallowed ends the run here."""
        check()
        self._advance()
