"""What can be killed at any moment and begun again in the same folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

Note = Callable[[str], object]
"""Takes a line that is to survive a kill."""


class Killable(Protocol):
    """A program that goes on where it was killed.

    Attributes:
        name: for tables.
        begins: the line that it notes where killing begins.
    """

    name: str
    begins: str

    def prepare(self, folder: Path) -> None:
        """Put into a new folder what is there before the first run."""

    def run(self, folder: Path, note: Note) -> Mapping[str, Any]:
        """Begin or go on, to the end; return what two runs must have in common."""

    def written(self, folder: Path) -> list[Path]:
        """Return the folders in which its files are written whole."""

    def acknowledged(self, folder: Path) -> list[Any]:
        """Return what is done for good, in its order."""

    def repeated(self, done: Counter[str], more: int, *, ended: bool) -> str:
        """Return what was done twice, by the lines that a run has noted, or ``""``.

        Args:
            done: the lines.
            more: how much more is acknowledged than before.
            ended: whether the run came to its end.
        """

    def unreadable(self, folder: Path) -> Iterator[str]:
        """Yield what is there and cannot be read."""

    def end_of(self, folder: Path) -> dict[str, Any]:
        """Return all that a run has left when it is over."""
