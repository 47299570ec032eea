"""The time that a trial has left."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic


class OutOfTime(Exception):
    """The time was over in the middle of a trial."""


class Countdown:
    """Counts down by the clock of this process, from what all processes agreed on.

    Args:
        now: seconds on a clock.

    Example::

        countdown = Countdown()
        countdown.start(60.0)
        countdown.is_over()  # False
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._end: float | None = None

    def start(self, left: float | None) -> None:
        """Begin with the seconds that are left; with ``None`` there is no end."""
        self._end = None if left is None else self._now() + left

    def is_over(self) -> bool:
        """Return whether nothing is left."""
        return self._end is not None and self._now() >= self._end
