"""What kits have tried, one JSON line a run of one, so that runs add up."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

LARGEST = ("longest", "largest", "MiB")
"""How the names of counts begin of which not the sum is told."""
DEFAULT = Path(__file__).parents[2] / ".soak/ledger.jsonl"


class Ledger:
    """Counts of one run of a kit, which are written down however it ends."""

    def __init__(self, kit: str, seed: int, path: Path | None, seconds: float = 0.0) -> None:
        self.counts: dict[str, float] = {}
        self._kit, self._seed, self._path = kit, seed, path
        self._since = time.monotonic() - seconds

    def add(self, **counts: float) -> None:
        """Add to the counts."""
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count

    def largest(self, **counts: float) -> None:
        """Keep the largest of each."""
        for name, count in counts.items():
            self.counts[name] = max(self.counts.get(name, count), count)

    def write(self) -> None:
        """Append the line with one write."""
        if self._path is None:
            return
        line = {
            "kit": self._kit,
            "seed": self._seed,
            "seconds": round(time.monotonic() - self._since, 1),
            "counts": self.counts,
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab", buffering=0) as file:
            file.write(json.dumps(line).encode() + b"\n")


def add_to(
    path: Path | None, kit: str, seed: int, seconds: float, counts: Mapping[str, float]
) -> None:
    """Append the counts of a run that has ended to a file, if there is one."""
    ledger = Ledger(kit, seed, path, seconds)
    ledger.counts |= counts
    ledger.write()


@contextmanager
def written_down(kit: str, asked: argparse.Namespace) -> Iterator[Ledger]:
    """Write down what a kit has counted when it ends, also by Ctrl-C and SIGTERM."""
    ledger, here = Ledger(kit, asked.seed, asked.ledger), os.getpid()

    def stop(number: int, _: FrameType | None) -> None:
        if os.getpid() == here:
            raise SystemExit(128 + number)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield ledger
    finally:
        if os.getpid() == here:
            ledger.write()


def parser_of(about: str, bound: str, count: int) -> argparse.ArgumentParser:
    """Return a parser of what all kits take.

    Args:
        about: the kit's docstring.
        bound: the option by which it is bounded, such as `--kills`.
        count: its default.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument(bound, type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ledger", type=Path, help="a file to which the counts are added")
    return parser


def sums(path: Path) -> dict[str, tuple[int, float, dict[str, float]]]:
    """Return the runs, the seconds and the counts of each kit."""
    found: dict[str, tuple[int, float, dict[str, float]]] = {}
    for line in path.read_text().splitlines():
        one = json.loads(line)
        runs, seconds, counts = found.get(one["kit"], (0, 0.0, {}))
        found[one["kit"]] = runs + 1, seconds + one["seconds"], _added(counts, one["counts"])
    return found


def _added(counts: dict[str, float], more: Mapping[str, float]) -> dict[str, float]:
    for name, count in more.items():
        before = counts.get(name, 0.0)
        largest = name.startswith(LARGEST) and name in counts
        counts[name] = max(before, count) if largest else before + count
    return counts


def table(path: Path) -> str:
    """Return the sums as a table."""
    rows = ["| kit | runs | hours | what | count |", "|---|---|---|---|---|"]
    for kit, (runs, seconds, counts) in sorted(sums(path).items()):
        first = f"| {kit} | {runs} | {seconds / 3600:.2f} "
        for name, count in sorted(counts.items()):
            rows.append(f"{first}| {name} | {count:g} |")
            first = "| | | "
    return "\n".join(rows)


if __name__ == "__main__":
    sys.stdout.write(f"{table(Path(sys.argv[1]))}\n")
