"""Compare int8 of this package with that of others, on ten small nets, and write RESULTS.md.

Each net is trained once on handwritten digits, and is then made int8 in each way in a process of
its own. A row is kept in a file when it is done, so that a run that was stopped goes on; rows that
failed, or whose tools were not installed, are tried again. The page is made of the rows that there
are. With `--quick` two nets are trained shortly, and the page stays beside their rows.

    make compare
    python benchmarks/comparison/compare.py --net ViT --way torchao
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from pathlib import Path
from queue import SimpleQueue
from time import monotonic
from typing import Any, TypeVar

sys.path.append(str(Path(__file__).parents[1]))

from families import FAMILIES  # noqa: E402
from making import key, key_of  # noqa: E402
from page import page  # noqa: E402
from processes import (  # noqa: E402
    ONE_THREAD,
    PATIENCE,
    Worker,
    first_told,
    in_rounds,
    is_made,
    missing,
)
from processor import cpu, model_name  # noqa: E402
from rows import BATCHES, FAILED, FormRow, Row, is_done, read_row, write_row  # noqa: E402
from ways import ROOT, WAYS, Way  # noqa: E402

QUICK, ROUNDS, QUICK_ROUNDS = ("MobileNetV3", "BERT"), 7, 3
HERE = Path(__file__).parent
CACHE, PAGE = ROOT / ".compare", HERE.parent / "RESULTS.md"
One = TypeVar("One")


def on_cores(
    jobs: Iterable[One], cores: Sequence[int], run: Callable[[One, int], object]
) -> list[object]:
    """Run jobs, as many at a time as there are cores, each on one of its own."""
    free: SimpleQueue[int] = SimpleQueue()
    for core in cores:
        free.put(core)

    def on_one(job: One) -> object:
        core = free.get()
        try:
            return run(job, core)
        finally:
            free.put(core)

    with ThreadPoolExecutor(len(cores)) as pool:
        return list(pool.map(on_one, jobs))


class Comparison:
    """What is asked for, and where it is kept.

    Args:
        asked: the command line.
    """

    def __init__(self, asked: argparse.Namespace) -> None:
        self.quick, self.rounds = asked.quick, asked.rounds
        self.cache = asked.cache / "quick" if asked.quick else asked.cache
        self.cache.mkdir(parents=True, exist_ok=True)
        self.nets, self.ways = tuple(asked.net), tuple(asked.way)
        self.cores = sorted(os.sched_getaffinity(0))[: asked.lanes]
        self.fresh, self.patience = asked.fresh, asked.patience
        self.machine = (
            f"{model_name()}, {cpu()}, {os.cpu_count()} cores, {len(self.cores)} models at a time"
        )

    def task(self, net: str) -> Path:
        """Return where a trained net is kept."""
        return self.cache / f"{net}.pt"

    def train(self, net: str, core: int) -> None:
        """Train a net, unless it is there."""
        wanted = key(net, quick=self.quick)
        if key_of(self.task(net)) == wanted:
            return
        began = monotonic()
        command = [sys.executable, HERE / "training.py", net, self.task(net)]
        command += ["--quick"] if self.quick else []
        subprocess.run(
            ["taskset", "-c", str(core), *map(str, command)],
            env={**os.environ, **ONE_THREAD},
            stderr=subprocess.DEVNULL,
            check=True,
        )
        say(net, "trained", monotonic() - began)

    def left(self, net: str) -> list[Way]:
        """Return the ways whose rows are not done."""
        found = key(net, quick=self.quick)
        return [
            way
            for way in self.ways
            if self.fresh or not is_done(read_row(self.cache, net, way.label), found)
        ]

    def compare(self, net: str) -> None:
        """Make the rows of a net that are not done, and keep them."""
        with ExitStack() as stack:
            ways = {way.label: way for way in self.left(net)}
            workers: dict[str, Worker] = {}
            told = dict.fromkeys(ways, dict[str, Any]())

            def make(way: Way, core: int) -> None:
                began = monotonic()
                told[way.label] = missing(way) or self._made(stack, workers, way, net, core)
                say(net, f"{way.label}: {told[way.label]['status']}", monotonic() - began)

            # Compilers first: a core that waits for the other one's last way waits less.
            on_cores(list(ways.values())[::-1], self.cores, make)
            made = {name: workers[name] for name in ways if is_made(told[name])}
            seconds, ended = in_rounds(made, BATCHES, self.rounds)
            for name in ways:
                row = self._row(net, name, told[name])
                if name in ended:
                    row = replace(row, status=FAILED, reason=ended[name])
                write_row(self.cache, replace(row, seconds=seconds.get(name, {})))

    def _made(
        self, stack: ExitStack, workers: dict[str, Worker], way: Way, net: str, core: int
    ) -> dict[str, Any]:
        worker = Worker(way, net, self.task(net), core=core, patience=self.patience)
        stack.callback(worker.close)
        workers[way.label] = worker
        return first_told(worker)

    def _row(self, net: str, name: str, told: dict[str, Any]) -> Row:
        forms = tuple(FormRow(**one) for one in told.get("forms", ()))
        return Row(
            net=net,
            way=name,
            key=key_of(self.task(net)) or "",
            date=date.today().isoformat(),
            machine=self.machine,
            **{**told, "forms": forms},
        )

    def write_page(self) -> Path:
        """Write the page of all rows that there are, and return where."""
        rows = {
            (net, way.label): row
            for net in FAMILIES
            for way in WAYS
            if (row := read_row(self.cache, net, way.label))
        }
        path = self.cache / PAGE.name if self.quick else PAGE
        path.write_text(page(rows))
        return path


def say(net: str, what: str, seconds: float) -> None:
    """Print a line about what is done."""
    print(f"{net}: {what}, {seconds:.0f} s", flush=True)


def ways_like(texts: Sequence[str]) -> tuple[Way, ...]:
    """Return the ways whose labels hold one of the texts; all for none.

    Raises:
        SystemExit: if there is no such way.
    """
    for text in texts:
        if not any(text.lower() in way.label.lower() for way in WAYS):
            labels = ", ".join(f"`{way.label}`" for way in WAYS)
            raise SystemExit(f"`--way` is `{text}`; allowed: a part of one of {labels}")
    found = [way for way in WAYS if any(text.lower() in way.label.lower() for text in texts)]
    return tuple(found) or WAYS


def arguments() -> argparse.ArgumentParser:
    """Return a parser of what can be asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ", ".join(FAMILIES)
    parser.add_argument("--net", nargs="+", choices=FAMILIES, metavar="NET", help=names)
    parser.add_argument("--way", nargs="+", default=[], help="parts of the names of ways")
    parser.add_argument("--quick", action="store_true", help=f"{' and '.join(QUICK)}, in short")
    parser.add_argument("--rounds", type=int, help="in which everything is timed")
    parser.add_argument("--lanes", type=int, default=2, help="models made at a time")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds for a model")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where rows are kept")
    parser.add_argument("--fresh", action="store_true", help="make rows again that are done")
    parser.add_argument("--page", action="store_true", help="make the page alone")
    return parser


def settled(asked: argparse.Namespace) -> argparse.Namespace:
    """Fill in what is compared where nothing was named."""
    asked.net = asked.net or (QUICK if asked.quick else tuple(FAMILIES))
    asked.rounds = asked.rounds or (QUICK_ROUNDS if asked.quick else ROUNDS)
    asked.way = ways_like(asked.way)
    return asked


def main() -> None:
    """Train, make, time, write."""
    asked = settled(arguments().parse_args())
    began, comparison = monotonic(), Comparison(asked)
    if not asked.page:
        waiting = [net for net in comparison.nets if comparison.left(net)]
        on_cores(waiting, comparison.cores, comparison.train)
        for net in waiting:
            comparison.compare(net)
    path = comparison.write_page()
    print(f"{path}: {monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
