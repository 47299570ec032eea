"""Read hostile files under an audit hook, each in a process of its own, and count what happens.

python tests/attacks/hostile.py --files 600 --seed 1
"""

from __future__ import annotations

import argparse
import codecs
import json
import logging
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("museum", "attacks", "scenes")]

import PIL.Image
import torch
from archives import archives
from attack import MARKER, Attack, by_name
from data_files import data_sets, exported, programs
from doors import DOORS, Door, good_files
from fsspec import get_filesystem_class
from ledger import Ledger
from pickles import calling, lying
from places import named, things
from texts import histories, jsons, locks, sealed_yamls, yamls
from watch import CPU_SECONDS, Watch, bound, forget_peak, measured

from lpot_lightning.errors import LpotError

GROUPS = (
    *(calling, lying, archives, yamls, sealed_yamls, jsons, histories, locks, things, named),
    *(data_sets, exported, programs),
)
WALL_SECONDS, MOST_MEMORY = 90, 1 << 30
CODECS = [
    "cp437",
    "utf-16-le",
    "utf-16-be",
    "utf-32-le",
    "utf-32-be",
    "utf-8-sig",
    "latin-1",
    "ascii",
    "idna",
    "rot13",
]
"""What names in archives and texts may be in, and what torch lets pickles encode by.

Python imports each from its own library when it is first met.
"""
REFUSED, PLAIN, RAW = "refused", "plain data", "raw"


def all_attacks() -> Mapping[str, Attack]:
    """Return every hostile file by its name."""
    return by_name([one for group in GROUPS for one in group()])


@dataclass(frozen=True)
class Seen:
    """What became of an attack.

    Args:
        name: of it.
        end: ``refused``, ``plain data`` or ``raw``.
        told: what was raised.
        events: that must not be.
        seconds: of the processor.
        memory: bytes by which the process grew.
    """

    name: str
    end: str
    told: str
    events: tuple[str, ...] = ()
    seconds: float = 0.0
    memory: int = 0

    @property
    def faults(self) -> list[str]:
        """Return what is not as it should be, for people."""
        found = [f"{self.name}: {one}" for one in self.events]
        if self.end == RAW:
            found.append(f"{self.name}: {self.told}")
        if self.seconds > CPU_SECONDS / 2:
            found.append(f"{self.name}: took {self.seconds:.1f} s")
        if self.memory > MOST_MEMORY:
            found.append(f"{self.name}: took {self.memory >> 20} MiB")
        return found


class Range:
    """Where attacks are tried: good files for each door, and a process that has read them.

    Args:
        root: an empty folder.
        doors: that are needed.
        kept: a folder of workspaces to copy; new ones are made if left out.
    """

    def __init__(
        self, root: Path, doors: Iterable[str] = tuple(DOORS), kept: Path | None = None
    ) -> None:
        self._good, self._folder = root / "good", root / "attack"
        for name in CODECS:
            codecs.lookup(name)
        PIL.Image.init()
        get_filesystem_class("memory")  # what a URL names is imported when it is first met
        good_files(self._good, kept)
        self._watch = Watch()
        self._usual = {name: self._learned(DOORS[name]) for name in doors}

    def _learned(self, door: Door) -> frozenset[str]:
        """Read good files twice: what they import, and what they bring about then."""
        if door.late or not door.files:
            return frozenset()
        for _ in range(2):
            self._place(door)
            self._watch.begin(self._folder if door.writes else None)
            door.open(self._folder)
            usual = self._watch.end()
            shutil.rmtree(self._folder)
        return usual

    def _place(self, door: Door) -> None:
        self._folder.mkdir()
        for kind, name in door.files:
            if (path := self._good / kind / name).is_dir():
                shutil.copytree(path, self._folder / name)
            else:
                shutil.copy(path, self._folder / name)

    def tried(self, attack: Attack) -> Seen:
        """Return what became of an attack."""
        door = DOORS[attack.door]
        self._place(door)
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                self._child(attack, door, write)
            except (
                BaseException
            ) as error:  # of the kit itself: what its parent holds is not its own
                told = f"it could not be tried: {error!r}"
                os.write(write, json.dumps({"end": RAW, "told": told, "events": []}).encode())
            finally:
                os._exit(0)
        os.close(write)
        seen = _waited(pid, read, attack)
        os.close(read)
        left = self._folder / MARKER
        if os.path.lexists(left) and "MARKER" not in attack.name:
            seen = Seen(seen.name, RAW, f"it wrote `{left}`", seen.events)
        shutil.rmtree(self._folder)
        return seen

    def _child(self, attack: Attack, door: Door, report: int) -> None:
        """Put the attack in its place, open the door, and tell what happened."""
        os.chdir(self._folder)
        _quietly()
        usual = self._usual_late(door) if door.late and door.files else self._usual[attack.door]
        attack.put(self._folder)
        signal.alarm(WALL_SECONDS)
        forget_peak()
        bound()
        used = _cpu_seconds()
        self._watch.begin(self._folder if door.writes else None, usual)
        found, memory = measured(lambda: door.open(self._folder))
        self._watch.end()
        told = {"end": _end(found, attack), "told": _told(found)}
        told |= {"events": self._watch.events[:20], "memory": memory}
        os.write(report, json.dumps({**told, "seconds": _cpu_seconds() - used}).encode())

    def _usual_late(self, door: Door) -> frozenset[str]:
        door.open(self._folder)
        self._watch.begin(None)
        door.open(self._folder)
        return self._watch.end()


def _quietly() -> None:
    """Let nobody see what libraries say, and nothing be read from a terminal."""
    null = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(null, handle)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _end(found: object, attack: Attack) -> str:
    if isinstance(found, LpotError):
        return REFUSED
    return RAW if isinstance(found, BaseException) or not attack.may_load else PLAIN


def _told(found: object) -> str:
    if not isinstance(found, BaseException):
        return "it was read"
    text = str(found).encode("ascii", "backslashreplace").decode()
    return f"{type(found).__name__}: {text}"[:1000]


def _waited(pid: int, report: int, attack: Attack) -> Seen:
    name = f"{attack.name} -> {attack.door}"
    content = os.read(report, 1 << 16)  # empty when it has ended without a word
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not content:
        return Seen(name, RAW, f"its process ended with {code}")
    told = json.loads(content)
    return Seen(name=name, **{**told, "events": tuple(told["events"])})


def chosen(names: Iterable[str], count: int, seed: int) -> list[str]:
    """Return ``count`` names, of all kinds alike as far as there are some."""
    left: dict[str, list[str]] = {}
    for name in names:
        left.setdefault(name.partition(":")[0], []).append(name)
    draw = random.Random(seed)
    for held in left.values():
        draw.shuffle(held)
    found: list[str] = []
    while len(found) < count and any(left.values()):
        found += [held.pop() for held in left.values() if held]
    return found[:count]


def main() -> int:
    """Try attacks, print a table, return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000, help="how many; all if left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="a part of the names of those to try")
    parser.add_argument("--kept", type=Path, help="workspaces to copy, instead of new ones")
    parser.add_argument("--ledger", type=Path, help="a file to add a line of counts to")
    parser.add_argument("--quiet", action="store_true", help="tell of faults only")
    given = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    ledger, started = Ledger("hostile", given.seed, given.ledger), time.monotonic()
    attacks = {name: one for name, one in all_attacks().items() if given.only in name}
    names = chosen(attacks, given.files, given.seed)
    faults: list[str] = []
    worst: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as root:
        firing = Range(Path(root), {attacks[name].door for name in names}, given.kept)
        for name in names:
            seen = firing.tried(attacks[name])
            ledger.count(**{attacks[name].kind: 1, seen.end: 1, "events": len(seen.events)})
            worst["MiB"] = max(worst["MiB"], seen.memory >> 20)
            worst["ms"] = max(worst["ms"], int(1000 * seen.seconds))
            faults += seen.faults
            if not given.quiet or seen.faults:
                print(f"{seen.end:10} {seen.seconds:6.2f} s {seen.memory >> 20:5} MiB  {name}")
            for fault in seen.faults:
                print(f"  FAULT {fault}", flush=True)
    ledger.count(files=len(names), faults=len(faults))
    ledger.largest(**{"worst ms": worst["ms"], "worst MiB": worst["MiB"]})
    ledger.write()
    print(f"{len(names)} files in {time.monotonic() - started:.0f} s, {len(faults)} faults")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
