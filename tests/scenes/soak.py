"""Run all kits in turns, with new seeds, for as long as is asked; print the sums of all runs.

    make soak                                       # all tests, then an hour of this
    python tests/scenes/soak.py --minutes 600
    python tests/scenes/soak.py --table

Each kit adds a line to a ledger when it ends, however it ends.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from ledger import DEFAULT, table

TESTS = Path(__file__).parents[1]
KITS = {
    "scenes/chaos.py": ("--kills", "200"),
    "scenes/disk_chaos.py": ("--faults", "100"),
    "scenes/crash_states.py": ("--states", "1000"),
    "scenes/stops.py": ("--stops", "25"),
    "scenes/ranks_chaos.py": ("--faults", "20"),
    "attacks/mutations.py": ("--mutations", "50000"),
    "attacks/hostile.py": ("--files", "600"),
    "scenes/growth.py": ("--runs", "50"),
}
"""The programs, by their files, and how much one run of them does."""


def kits() -> dict[Path, tuple[str, str]]:
    """Return those that are there."""
    return {TESTS / name: bound for name, bound in KITS.items() if (TESTS / name).is_file()}


def seeds(ledger: Path) -> Iterator[int]:
    """Yield numbers that no run in the ledger had."""
    lines = ledger.read_text().splitlines() if ledger.is_file() else []
    return count(1 + max((json.loads(line)["seed"] for line in lines), default=0))


def soak(until: float, ledger: Path) -> int:
    """Run the kits in turns, and return how many runs found something."""
    found, numbers = 0, seeds(ledger)
    while True:
        for kit, bound in kits().items():
            if (left := until - time.monotonic()) <= 0:
                return found
            found += _run(kit, bound, next(numbers), ledger, left)


def _run(kit: Path, bound: tuple[str, str], seed: int, ledger: Path, seconds: float) -> bool:
    """Run one, and say whether it found something; one that takes too long is asked to stop."""
    asked = [*bound, "--seed", str(seed), "--ledger", str(ledger)]
    sys.stdout.write(f"\n{kit.name} {' '.join(asked[:4])}\n")
    sys.stdout.flush()
    run = subprocess.Popen([sys.executable, str(kit), *asked], cwd=TESTS.parent)
    try:
        return run.wait(seconds) != 0
    except subprocess.TimeoutExpired:
        run.terminate()
        return run.wait() not in (0, 143)
    except KeyboardInterrupt:
        run.wait()
        raise


def main() -> int:
    """Soak, or print the table; return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--ledger", type=Path, default=DEFAULT)
    parser.add_argument("--table", action="store_true", help="print the sums and do nothing else")
    asked = parser.parse_args()
    found = 0
    if not asked.table:
        found = soak(time.monotonic() + 60 * asked.minutes, asked.ledger.absolute())
    sys.stdout.write(f"{table(asked.ledger)}\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
