"""A line of text from a process to the one that started it."""

from __future__ import annotations

from contextlib import suppress

import torch

_SIZE = 4096


class Postbox:
    """Reaches the main process of ``ddp_spawn`` or a notebook, where no hook of a callback runs.

    Lightning copies the callbacks to the processes that it starts, and nothing of them back. The
    text is held in shared memory, which survives both pickling for ``spawn`` and ``fork``.
    """

    def __init__(self) -> None:
        self._page = torch.zeros(_SIZE, dtype=torch.uint8)
        with suppress(RuntimeError):  # no shared memory: then nothing can be spawned here, too
            self._page.share_memory_()  # type: ignore[no-untyped-call]

    def put(self, text: str) -> None:
        """Leave ``text`` in place of what was there; ``""`` empties the box."""
        content = text.encode()[: _SIZE - 1]
        self._page.zero_()
        self._page[: len(content)] = torch.tensor(list(content), dtype=torch.uint8)

    def take(self) -> str:
        """Return what is in the box; it stays there."""
        return bytes(self._page.tolist()).rstrip(b"\0").decode()
