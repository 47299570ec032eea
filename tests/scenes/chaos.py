"""Kill runs at random moments, go on with them, hold the end against that of a quiet run.

    make chaos

A process that has imported everything forks once a run. One half of the kills comes by the clock,
at any moment of a run; the other at one of the calls that change files, with half of the content
written where it is a write. A run that was killed goes on, may be killed again, and ends.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from all_kills import asked_scenes, warm_up_all
from ledger import Ledger, parser_of, written_down

from lpot_lightning.selftest.kills import FAULTS, Kills
from lpot_lightning.selftest.scene import Killable


def row(kills: Kills) -> str:
    """Return a row of the table."""
    size = f"{kills.seconds:.2f} s, {kills.calls} calls"
    names = ("runs", "by the clock", "at a call", *FAULTS)
    return f"| {kills.scene.name} | {size} | {' | '.join(str(kills.counts[n]) for n in names)} |"


def main() -> int:
    """Kill, print a table, return 1 if anything went wrong."""
    parser = parser_of(__doc__ or "", "--kills", 200)
    parser.add_argument("--scene", default="", help="only those whose names have this in them")
    asked = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="lpot-chaos-"))
    scenes = asked_scenes(asked.scene)
    warm_up_all(scenes, root / "warm")
    draw = random.Random(asked.seed)
    with written_down("chaos", asked) as ledger:
        kills = Sharing(scenes, draw, root)
        while (left := asked.kills - sum(one.kills for one in kills.made)) > 0:
            with kills.turn() as one:
                add(ledger, one, min(draw.randint(1, 4), left))
    head = ["scene", "one run", "runs", "kills by the clock", "kills at a call", *FAULTS]
    sys.stdout.write(f"| {' | '.join(head)} |\n{'|---' * len(head)}|\n")
    sys.stdout.write("".join(f"{row(one)}\n" for one in kills.made))
    return ended(
        root, [fault for one in kills.made for fault in one.faults], f"{asked.kills} kills"
    )


class Sharing:
    """Gives each scene as much time as the others."""

    def __init__(self, scenes: list[Killable], draw: random.Random, root: Path) -> None:
        self._kills: dict[str, Kills] = {}
        self._scenes, self._draw, self._root = scenes, draw, root
        self._spent = {one.name: draw.random() / 1000 for one in scenes}  # in any order at first

    @property
    def made(self) -> list[Kills]:
        """Those that had a turn."""
        return list(self._kills.values())

    @contextmanager
    def turn(self) -> Iterator[Kills]:
        """Yield the scene that has had the least time."""
        began = time.monotonic()
        scene = min(self._scenes, key=lambda one: self._spent[one.name])
        if scene.name not in self._kills:
            self._kills[scene.name] = Kills(scene, self._draw, self._root)
        yield self._kills[scene.name]
        self._spent[scene.name] += time.monotonic() - began


def add(ledger: Ledger, kills: Kills, most: int) -> None:
    """Kill and go on with one run, and write down what came of it."""
    before = kills.counts.copy()
    kills.case(most)
    more = kills.counts - before
    killed = more["by the clock"] + more["at a call"]
    ledger.add(kills=killed, **{f"kills: {kills.scene.name}": killed})
    ledger.add(**{name: more[name] for name in (*FAULTS, "runs")})


def ended(root: Path, faults: list[str], what: str) -> int:
    """Say what went wrong, and return the exit code; what it was seen in stays."""
    sys.stdout.write("".join(f"{fault}\n" for fault in faults) or f"{what}, no fault\n")
    if not faults:
        shutil.rmtree(root)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
