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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from all_kills import asked_scenes, warm_up_all
from ledger import Ledger, parser_of, written_down

from lpot_lightning.selftest.kills import FAULTS, Kills
from lpot_lightning.selftest.scene import Killable

Made = TypeVar("Made")


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
        kills = Sharing(draw.sample(scenes, len(scenes)), lambda scene: Kills(scene, draw, root))
        while (left := asked.kills - sum(one.kills for one in kills.made)) > 0:
            with kills.turn() as one:
                add(ledger, one, min(draw.randint(1, 8), left))
    head = ["scene", "one run", "runs", "kills by the clock", "kills at a call", *FAULTS]
    sys.stdout.write(f"| {' | '.join(head)} |\n{'|---' * len(head)}|\n")
    sys.stdout.write("".join(f"{row(one)}\n" for one in kills.made))
    return ended(
        root, [fault for one in kills.made for fault in one.faults], f"{asked.kills} kills"
    )


class Sharing(Generic[Made]):
    """Gives each scene as much time as the others.

    Args:
        scenes: in the order of their first turns.
        make: makes what has the turns of a scene.
    """

    def __init__(self, scenes: list[Killable], make: Callable[[Killable], Made]) -> None:
        self._scenes, self._make = scenes, make
        self._made: dict[str, Made] = {}
        self._spent = {one.name: 0.0 for one in scenes}

    @property
    def made(self) -> list[Made]:
        """Those that had a turn."""
        return list(self._made.values())

    @contextmanager
    def turn(self) -> Iterator[Made]:
        """Yield that of the scene that has had the least time."""
        began = time.monotonic()
        scene = min(self._scenes, key=lambda one: self._spent[one.name])
        if scene.name not in self._made:
            self._made[scene.name] = self._make(scene)
        yield self._made[scene.name]
        self._spent[scene.name] += time.monotonic() - began


def add(ledger: Ledger, kills: Kills, most: int) -> None:
    """Kill and go on with one run, and write down what came of it."""
    before = kills.kills
    with ledger.adding(kills.counts, (*FAULTS, "runs")):
        kills.case(most)
    killed = kills.kills - before
    ledger.count(kills=killed, **{f"kills: {kills.scene.name}": killed})


def ended(root: Path, faults: list[str], what: str) -> int:
    """Say what went wrong, and return the exit code; what it was seen in stays."""
    sys.stdout.write("".join(f"{fault}\n" for fault in faults) or f"{what}, no fault\n")
    if not faults:
        shutil.rmtree(root)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
