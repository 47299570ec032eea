"""All of it in one folder, and a table of what came of it."""

from __future__ import annotations

import logging
import os
import random
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any

import torch
import torch._dynamo

from lpot_lightning.artifacts.earlier import DEPLOY, HISTORY, RESULT
from lpot_lightning.artifacts.restore import load
from lpot_lightning.artifacts.storage import CONFIGURE, WEIGHTS
from lpot_lightning.artifacts.tune_config import read_configure
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.errors import ArtifactError, ConfError, LpotError
from lpot_lightning.machine.columns import aligned, hanging
from lpot_lightning.machine.files import expanded
from lpot_lightning.runs.tuning_result import read_result
from lpot_lightning.selftest.disk_faults import SILENT, UNNAMED, DiskFaults
from lpot_lightning.selftest.kills import LOST, OTHER, REPEATED, UNEQUAL, UNREADABLE, Kills, Trials
from lpot_lightning.selftest.little_run import LittleRun, TinyNet, inputs
from lpot_lightning.selftest.mutations import damaged
from lpot_lightning.tuning.history import look_at

MUTATIONS = 300
"""How many damaged files are read."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A row of the table.

    Args:
        what: was done to the runs or their files.
        tried: how often.
        lost: trials that were lost or judged twice, and ends that differ.
        destroyed: files that cannot be read.
        accepted: damage or faults that nobody was told of.
        seconds: that it took.
        faults: what went wrong, one line each.
    """

    what: str
    tried: int
    lost: int
    destroyed: int
    accepted: int
    seconds: float
    faults: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether nothing went wrong."""
        return not (self.lost or self.destroyed or self.accepted or self.faults)


def try_out(folder: str, kills: int, seed: int, say: Callable[[str], object]) -> list[Tried]:
    """Kill tiny runs, let their disk fail, damage their files; nothing is left in ``folder``.

    Args:
        folder: on the file system that is to be tried.
        kills: how many kills, and as many faults of the disk.
        seed: of the random numbers.
        say: told what is done.

    Raises:
        ConfError: if this system cannot fork, or ``kills`` is no number of kills.
        ArtifactError: if ``folder`` cannot be written.
    """
    if not hasattr(os, "fork"):
        raise ConfError("`selftest` kills processes that it forks, and this system has no `fork`")
    if kills < 1:
        raise ConfError(f"`--kills` is {kills}; allowed: 1 or more")
    with _place(folder) as root, _small_torch(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        say("running a tiny tuning in peace")
        (root / "first").mkdir()
        with _quiet():
            LittleRun().run(root / "first", lambda line: None)  # so that no child has to import
        draw = random.Random(seed)
        say(f"killing it {kills} times")
        rows = [_killed(draw, root / "kills", kills)]
        say(f"letting the disk fail {kills} times")
        rows.append(_failed(draw, root / "faults", kills))
        say(f"damaging its files {MUTATIONS} times")
        rows.append(_mutated(draw, root / "first" / "workspace"))
    return rows


def table(rows: list[Tried]) -> str:
    """Return it for people."""
    head = ["what", "tried", "lost", "destroyed", "accepted wrongly", "seconds"]
    shown = [
        [
            one.what,
            *map(str, (one.tried, one.lost, one.destroyed, one.accepted)),
            f"{one.seconds:.1f}",
        ]
        for one in rows
    ]
    faults = [fault for one in rows for fault in one.faults]
    return "\n".join([aligned([head, *shown], right=range(1, 6)), *map(hanging, faults)])


def _killed(draw: random.Random, root: Path, wanted: int) -> Tried:
    began = monotonic()
    root.mkdir()
    kills = Kills(LittleRun(), draw, root)
    while kills.kills < wanted:
        kills.case(min(draw.randint(1, 5), wanted - kills.kills))
    return _row("SIGKILL at any moment and at any file call", kills.kills, kills, began)


def _failed(draw: random.Random, root: Path, wanted: int) -> Tried:
    began = monotonic()
    root.mkdir()
    faults = DiskFaults(LittleRun(), draw, root)
    for _ in range(min(wanted, faults.ways)):
        faults.case()
    return _row("disk full, broken or read-only at any file call", faults.tried, faults, began)


def _row(what: str, tried: int, trials: Trials, began: float) -> Tried:
    counts = trials.counts
    return Tried(
        what=what,
        tried=tried,
        lost=sum(counts[name] for name in (LOST, REPEATED, UNEQUAL, OTHER)),
        destroyed=counts[UNREADABLE],
        accepted=counts[SILENT] + counts[UNNAMED],
        seconds=monotonic() - began,
        faults=tuple(trials.faults),
    )


def _mutated(draw: random.Random, workspace: Path) -> Tried:
    """Read the files of a run with damage in one of them."""
    began = monotonic()
    each = MUTATIONS // len(_READERS)
    wrong = [fault for name in _READERS for fault in _accepted(workspace, name, draw, each)]
    return Tried(
        what="bits, bytes, blocks and ends of its files damaged",
        tried=each * len(_READERS),
        lost=0,
        destroyed=0,
        accepted=len(wrong),
        seconds=monotonic() - began,
        faults=tuple(wrong),
    )


def _accepted(workspace: Path, name: str, draw: random.Random, count: int) -> Iterator[str]:
    """Yield what was damaged and is read as another result."""
    path, read = workspace / name, _READERS[name]
    content, whole = path.read_bytes(), read(workspace)
    for number, changed in enumerate(islice(damaged(content, draw), count)):
        path.write_bytes(changed)
        try:
            found = read(workspace)
        except LpotError:
            continue
        if found != whole[: len(found)]:  # a history may have lost its end
            yield f"{name}: damage {number} is read as another result"
    path.write_bytes(content)


def _answers(workspace: Path) -> list[Any]:
    """Return what the model gives, and what is said of it."""
    model = load(workspace / CONFIGURE, workspace / WEIGHTS, TinyNet())
    said = {**read_configure(workspace / CONFIGURE), "weights": None}  # of two hashes one is enough
    return [(model(inputs()).flatten().tolist(), said)]


def _trials(workspace: Path) -> list[Any]:
    return [one.to_dict() for one in look_at(workspace / HISTORY).trials]


def _result(workspace: Path) -> list[Any]:
    return [read_result(workspace / RESULT).to_json()]


def _deploy(workspace: Path) -> list[Any]:
    return [read_conf(str(workspace / DEPLOY)).to_dict()]


_READERS: dict[str, Callable[[Path], list[Any]]] = {
    CONFIGURE: _answers,
    WEIGHTS: _answers,
    HISTORY: _trials,
    RESULT: _result,
    DEPLOY: _deploy,
}
"""How each file is read."""


@contextmanager
def _place(folder: str) -> Iterator[Path]:
    place = expanded(folder)
    try:
        root = Path(tempfile.mkdtemp(prefix="lpot-selftest-", dir=place)).absolute()
    except OSError as error:
        raise ArtifactError(f"cannot write to `{folder}`: {error.strerror or error}") from error
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Let a run in this process say nothing."""
    log, deaf = logging.getLogger("lpot_lightning"), logging.NullHandler()
    log.addHandler(deaf)
    try:
        yield
    finally:
        log.removeHandler(deaf)


@contextmanager
def _small_torch() -> Iterator[None]:
    """Let runs have one thread, since a forked process has no others, and build no graphs.

    These would take longer than all the rest.
    """
    before, graphs = torch.get_num_threads(), torch._dynamo.config.disable
    torch.set_num_threads(1)
    torch._dynamo.config.disable = True
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch._dynamo.config.disable = graphs
