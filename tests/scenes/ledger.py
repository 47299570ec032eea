"""What kits have tried, one JSON line a run of one, so that runs add up."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

DEFAULT = Path(__file__).parents[2] / ".soak/ledger.jsonl"


class Ledger:
    """What one run of a kit has counted.

    Args:
        kit: its name.
        seed: of the run.
        path: of the file that gets a line; ``None`` for none.
    """

    def __init__(self, kit: str, seed: int, path: Path | None) -> None:
        self.counts: Counter[str] = Counter()
        self.most: dict[str, float] = {}
        self._kit, self._seed, self._path = kit, seed, path
        self._since = time.monotonic()

    def count(self, **more: int) -> None:
        """Add to the counts."""
        self.counts.update(more)

    @contextmanager
    def adding(self, counts: Counter[str], names: Iterable[str]) -> Iterator[None]:
        """Add what some of the counts of a kit grow by in the ``with``."""
        before = counts.copy()
        yield
        self.count(**{name: counts[name] - before[name] for name in names})

    def largest(self, **most: float) -> None:
        """Keep the largest of each: they do not add up."""
        self.most.update({n: max(self.most.get(n, value), value) for n, value in most.items()})

    def write(self) -> None:
        """Append the line with one write."""
        line = {"kit": self._kit, "seed": self._seed}
        line |= {"seconds": round(time.monotonic() - self._since, 1), "counts": dict(self.counts)}
        if self._path is None:
            return
        content = json.dumps({**line, **({"most": self.most} if self.most else {})})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab", buffering=0) as file:
            file.write(content.encode() + b"\n")


@contextmanager
def written_down(kit: str, asked: argparse.Namespace) -> Iterator[Ledger]:
    """Write down what a kit has counted when it ends, also by Ctrl-C and SIGTERM."""
    ledger, here = Ledger(kit, asked.seed, asked.ledger), os.getpid()

    def stop(number: int, _: FrameType | None) -> None:
        if os.getpid() == here:
            ledger.write()
        os._exit(128 + number)  # an exception may be lost where it comes, as in a finalizer

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


@dataclasses.dataclass
class Sum:
    """What all runs of one kit come to."""

    runs: int = 0
    seconds: float = 0.0
    counts: dict[str, float] = dataclasses.field(default_factory=dict)

    def add(self, line: Mapping[str, Any]) -> None:
        """Take one run in."""
        self.runs, self.seconds = self.runs + 1, self.seconds + line["seconds"]
        most = {n: one for n, one in line["counts"].items() if n.startswith("longest")}
        for name, count in line["counts"].items():
            self.counts[name] = self.counts.get(name, 0) + (0 if name in most else count)
        for name, value in {**most, **line.get("most", {})}.items():
            self.counts[name] = max(self.counts.get(name, value), value)


def sums(path: Path) -> dict[str, Sum]:
    """Return what the runs of each kit come to."""
    found: dict[str, Sum] = {}
    for line in map(json.loads, path.read_text().splitlines()):
        found.setdefault(line["kit"], Sum()).add(line)
    return found


def table(path: Path) -> str:
    """Return the sums as a table."""
    rows = ["| kit | runs | hours | what | count |", "|---|---|---|---|---|"]
    for kit, one in sorted(sums(path).items()):
        first = f"| {kit} | {one.runs} | {one.seconds / 3600:.2f} "
        for name, count in sorted(one.counts.items()):
            rows.append(f"{first}| {name} | {count:g} |")
            first = "| | | "
    return "\n".join(rows)


if __name__ == "__main__":
    sys.stdout.write(f"{table(Path(sys.argv[1]))}\n")
