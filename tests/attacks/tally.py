"""A line of counts for each run of a kit, so that runs add up."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path


class Ledger:
    """What one run of a kit has counted.

    Args:
        kit: its name.
        seed: of the run.
        path: of the file that gets a line; ``None`` for none.
    """

    def __init__(self, kit: str, seed: int, path: Path | None) -> None:
        self._kit, self._seed, self._path = kit, seed, path
        self._started = time.monotonic()
        self.counts: Counter[str] = Counter()

    def count(self, **more: int) -> None:
        """Add to the counts."""
        self.counts.update(more)

    def write(self, **most: int) -> None:
        """Append the line with one write; ``most`` are largest values, which do not add up."""
        seconds = round(time.monotonic() - self._started, 1)
        line = {"kit": self._kit, "seed": self._seed, "seconds": seconds}
        content = json.dumps(
            {**line, "counts": dict(self.counts), **({"most": most} if most else {})}
        )
        if self._path is None:
            return
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, content.encode() + b"\n")
        finally:
            os.close(handle)
