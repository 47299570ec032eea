"""Let the disk be full, broken or read-only at each call that changes a file, then go on.

    make chaos

A fault is met once or lasts; where it is a write, half of the content is written before. It has to
be told by an error of ours that names the file, and the next run to end as a quiet one does.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

from all_kills import asked_scenes, warm_up_all
from chaos import Sharing, ended
from ledger import parser_of, written_down

from lpot_lightning.selftest.disk_faults import DISK_FAULTS, DiskFaults

COUNTED = ("disk faults", "harmless", *DISK_FAULTS)


def row(met: DiskFaults) -> str:
    """Return a row of the table."""
    counts = " | ".join(str(met.counts[name]) for name in COUNTED)
    return f"| {met.scene.name} | {met.calls} calls, {met.ways} ways | {counts} |"


def main() -> int:
    """Let disks fail, print a table, return 1 if anything went wrong."""
    parser = parser_of(__doc__ or "", "--faults", 100)
    parser.add_argument("--scene", default="", help="only those whose names have this in them")
    asked = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="lpot-disk-"))
    scenes = [one for one in asked_scenes(asked.scene) if one.name != "benchmark"]  # writes none
    warm_up_all(scenes, root / "warm")
    draw = random.Random(asked.seed)
    with written_down("disk", asked) as ledger:
        disks = Sharing(scenes, lambda scene: DiskFaults(scene, draw, root))
        while sum(one.tried for one in disks.made) < asked.faults:
            with disks.turn() as one, ledger.adding(one.counts, COUNTED):
                one.case()
    head = ["scene", "one run", *COUNTED]
    sys.stdout.write(f"| {' | '.join(head)} |\n{'|---' * len(head)}|\n")
    sys.stdout.write("".join(f"{row(one)}\n" for one in disks.made))
    faults = [fault for one in disks.made for fault in one.faults]
    return ended(root, faults, f"{sum(one.tried for one in disks.made)} disk faults")


if __name__ == "__main__":
    sys.exit(main())
