"""What runs of the kits have counted, one line of JSON a run: they are summed up elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path


def add_to(
    ledger: Path | None, kit: str, seed: int, seconds: float, counts: Mapping[str, float]
) -> None:
    """Append the counts of one run to a file, if there is one."""
    if ledger is None:
        return
    line = {"kit": kit, "seed": seed, "seconds": round(seconds, 1), "counts": dict(counts)}
    with ledger.open("a") as file:
        file.write(json.dumps(line) + "\n")
