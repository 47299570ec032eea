"""Times the steps of a validation loop, without the data and without other callbacks."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from time import perf_counter

from lightning.pytorch import Callback


class StopWatch:
    """Collects the seconds of each ``validation_step``.

    Example::

        watch = StopWatch()
        run(callbacks=watch.around([bar]))
        watch.median
    """

    def __init__(self) -> None:
        self._started = 0.0
        self._seconds: list[float] = []

    @property
    def median(self) -> float:
        """The median of all steps, 0 if there was none."""
        return median(self._seconds) if self._seconds else 0.0

    def around(self, callbacks: Sequence[Callback]) -> list[Callback]:
        """Return ``callbacks`` with those before and after them that start and stop the watch."""
        return [_Stops(self), *callbacks, _Starts(self)]

    def start(self) -> None:
        """A step begins."""
        self._started = perf_counter()

    def stop(self) -> None:
        """The step is done."""
        self._seconds.append(perf_counter() - self._started)


class _Starts(Callback):
    """The last to hear that a batch is there."""

    def __init__(self, watch: StopWatch) -> None:
        self._watch = watch

    def on_validation_batch_start(self, *_: object, **__: object) -> None:
        self._watch.start()


class _Stops(Callback):
    """The first to hear that a batch is done."""

    def __init__(self, watch: StopWatch) -> None:
        self._watch = watch

    def on_validation_batch_end(self, *_: object, **__: object) -> None:
        self._watch.stop()
