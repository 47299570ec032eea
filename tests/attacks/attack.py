"""What an attack is: a file that somebody else has put where one of ours is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

MARKER = "MARKER"
"""The file that code of an attack would write into the folder that it is read in, if any ran."""

Content = bytes | Callable[[], bytes]


@dataclass(frozen=True)
class Attack:
    """A hostile file.

    Args:
        name: what it tries.
        door: by which call it is read; one of ``doors.DOORS``.
        put: puts it into a folder that has the good files of the door.
        may_load: whether it holds plain data, too, which may rightly be read.
    """

    name: str
    door: str
    put: Callable[[Path], object]
    may_load: bool = False

    @property
    def kind(self) -> str:
        """Return the first part of its name, by which attacks are counted."""
        return self.name.partition(":")[0]


def written(file: str, content: Content) -> Callable[[Path], object]:
    """Return what writes a file; content that is large is made when it is written."""
    return lambda folder: (folder / file).write_bytes(content() if callable(content) else content)


def by_name(attacks: list[Attack]) -> Mapping[str, Attack]:
    """Return attacks by names, which are all different."""
    found = {f"{one.name} -> {one.door}": one for one in attacks}
    assert len(found) == len(attacks), [one.name for one in attacks]
    return found
