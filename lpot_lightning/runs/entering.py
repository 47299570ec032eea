"""A workspace of one's own: the one that was asked for, or one in it where that is in use."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

from lpot_lightning.errors import BusyError
from lpot_lightning.machine.lock import WorkspaceLock
from lpot_lightning.runs.workspace import Workspace

PARALLEL = "parallel"
"""The folder in a workspace that has a numbered one for each run at the same time."""
Tell = Callable[[str], object]


def enter(asked: Workspace, say: Tell) -> tuple[Workspace, WorkspaceLock]:
    """Keep others out of a workspace; where another run is in it take ``parallel/1``, … in it.

    Args:
        asked: has a folder. With a history to resume it is that one or none.
        say: takes one line where another folder is taken.

    Raises:
        BusyError: if the workspace is in use, and a history of it is to be resumed.
        ArtifactError: if it cannot be written.
    """
    assert asked.folder is not None
    lock = WorkspaceLock(asked.folder)
    try:
        lock.acquire()
        return asked, lock
    except BusyError as error:
        if asked.resume is not None:
            raise
        own, lock = _free(asked)
        reason = str(error).partition(";")[0]
        say(f"{reason}: this run leaves its files in `{own.folder}`")
        return own, lock


def _free(asked: Workspace) -> tuple[Workspace, WorkspaceLock]:
    assert asked.folder is not None
    for number in count(1):
        own = dataclasses.replace(asked, folder=asked.folder / PARALLEL / str(number))
        assert own.folder is not None
        lock = WorkspaceLock(own.folder)
        try:
            lock.acquire()
            return own, lock
        except BusyError:
            continue
    raise AssertionError


@contextmanager
def entered(asked: Workspace, say: Tell) -> Iterator[Workspace]:
    """Be in a workspace that nobody else is in, as ``enter`` does, for one ``with``."""
    own, lock = enter(asked, say)
    try:
        yield own
    finally:
        lock.release()
