"""What a power cut may leave of a run: unsynced writes that are lost, torn or reordered.

    make soak

The calls of a quiet run that change files are recorded. For each moment of it states of the disk
are built: what was synced is there; of the rest any part may be, a write torn or zeros, a name
without the content. A name counts as synced when its folder is. (The model is that of ALICE,
Pillai et al., OSDI 2014, and knows no more than POSIX promises.) Whenever a run begins a trial, all
that can be seen in its workspace has to outlive a cut from there on.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import random
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from all_kills import asked_scenes, warm_up_all
from chaos import ended
from ledger import Ledger, parser_of, written_down

from lpot_lightning.selftest.file_calls import FileCall, FileCalls
from lpot_lightning.selftest.forked import ERRORS, Forked
from lpot_lightning.selftest.kills import FAULTS, OTHER, Trials
from lpot_lightning.selftest.scene import Killable, Note

NOT_KEPT = "acknowledged and lost"
COUNTED = ("states", "gone on with", NOT_KEPT, *FAULTS)
_DATA = ("write", "cut")


@dataclasses.dataclass(frozen=True)
class Deed:
    """One thing that happened to a disk.

    Args:
        name: `create`, `write`, `cut`, `sync`, `syncdir`, `move`, `link`, `unlink`, `mkdir`,
            `rmdir`, or `seen`, which is none: the run has gone on.
        path: that it is about.
        other: the new name, of a `move` or a `link`.
        node: the number of the file.
        at: where it is written, or cut.
        content: what is written.
    """

    name: str
    path: str = ""
    other: str = ""
    node: int = 0
    at: int = 0
    content: bytes = b""

    @property
    def is_data(self) -> bool:
        """Whether it changes what is in a file, and not what a file is called."""
        return self.name in _DATA

    def folders(self) -> set[str]:
        """Return the folders by which it is synced."""
        return {os.path.dirname(one) for one in (self.path, self.other) if one}


class Recorder:
    """Writes down the deeds of a process, one JSON line each."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._write = os.write

    def __call__(self, call: FileCall) -> None:
        deed = _deed_of(call)
        if deed is not None:
            self.add(deed)

    def add(self, deed: Deed) -> None:
        """Write one down."""
        plain = {**dataclasses.asdict(deed), "content": base64.b64encode(deed.content).decode()}
        self._write(self._handle, json.dumps(plain).encode() + b"\n")


def _deed_of(call: FileCall) -> Deed | None:
    """Return what a call has done, ``None`` if that is nothing that a cut could undo."""
    if call.name in ("replace", "rename"):
        return Deed("move", call.path, call.other)
    if call.name == "link":
        return Deed("link", call.path, call.other)
    if call.name in ("unlink", "mkdir", "rmdir"):
        return Deed(call.name, call.path)
    if call.name == "truncate":
        handle = call.path if call.handle is None else call.handle
        return Deed("cut", node=os.stat(handle).st_ino, at=call.size)
    if call.handle is None:
        return None
    found = os.fstat(call.handle)
    if call.name == "fsync":
        if stat.S_ISDIR(found.st_mode):
            return Deed("syncdir", call.path)
        return Deed("sync", node=found.st_ino)
    if call.name == "open" and call.created:
        return Deed("create", call.path, node=found.st_ino)
    if call.name == "write":
        at = os.lseek(call.handle, 0, os.SEEK_CUR) - len(call.content)
        return Deed("write", node=found.st_ino, at=at, content=call.content)
    return None


def recorded(scene: Killable, folder: Path, path: Path) -> list[Deed]:
    """Return the deeds of a quiet run in a prepared folder."""

    def patched(note: Note) -> Note:
        recorder = Recorder(path)
        shutil._USE_CP_SENDFILE = False  # type: ignore[attr-defined]
        FileCalls([folder], after=partial(_seen, recorder, scene.written(folder))).patch()

        def noted(line: str) -> None:
            recorder.add(Deed("seen"))
            note(line)

        return noted

    def _seen(recorder: Recorder, written: list[Path], call: FileCall) -> None:
        ours = any(Path(call.path).is_relative_to(one) for one in written)
        if ours or (call.name == "fsync" and call.path == os.path.realpath(folder)):
            recorder(call)

    assert Forked(scene, folder, patched).wait() == 0, (folder / ERRORS).read_text()
    plain = [json.loads(line) for line in path.read_text().splitlines()]
    deeds = [Deed(**{**one, "content": base64.b64decode(one["content"])}) for one in plain]
    return [*_numbered(deeds), Deed("seen")]


def _numbered(deeds: list[Deed]) -> Iterator[Deed]:
    """Yield the deeds with a number of its own for each file: a disk gives them again."""
    numbers = dict[int, int]()
    for count, deed in enumerate(deeds, start=1):
        if deed.name == "create":
            numbers[deed.node] = -count
        yield dataclasses.replace(deed, node=numbers.get(deed.node, deed.node))


@dataclasses.dataclass
class Disk:
    """Names and contents; what has no name is lost."""

    names: dict[str, int] = dataclasses.field(default_factory=dict)
    folders: set[str] = dataclasses.field(default_factory=set)
    nodes: dict[int, bytes] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, root: Path) -> Disk:
        """Return what lies in a folder."""
        disk = cls(folders={str(root.parent)})
        for path in [root, *root.rglob("*")] if root.exists() else []:
            if path.is_dir():
                disk.folders.add(str(path))
            else:
                disk.names[str(path)] = path.stat().st_ino
                disk.nodes[path.stat().st_ino] = path.read_bytes()
        return disk

    def copy(self) -> Disk:
        """Return a second one."""
        return Disk(dict(self.names), set(self.folders), dict(self.nodes))

    def do(self, deed: Deed) -> None:
        """Let it happen."""
        if deed.name == "create":
            self.names[deed.path] = deed.node
            self.nodes.setdefault(deed.node, b"")  # a name may be synced after its content
        elif deed.name == "write":
            old = self.nodes.get(deed.node, b"").ljust(deed.at, b"\0")
            end = deed.at + len(deed.content)
            self.nodes[deed.node] = old[: deed.at] + deed.content + old[end:]
        elif deed.name == "cut":
            self.nodes[deed.node] = self.nodes.get(deed.node, b"")[: deed.at].ljust(deed.at, b"\0")
        elif deed.name == "mkdir":
            self.folders.add(deed.path)
        elif deed.name == "rmdir":
            self.folders.discard(deed.path)
        elif deed.name == "unlink":
            self.names.pop(deed.path, None)
        elif deed.name in ("link", "move") and deed.node:
            self.names[deed.other] = deed.node
            if deed.name == "move":
                self.names.pop(deed.path, None)
        elif deed.name == "move" and deed.path in self.folders:
            self._move_folder(deed.path, deed.other)

    def _move_folder(self, one: str, other: str) -> None:
        for found in [*self.folders, *self.names]:
            if found == one or found.startswith(one + os.sep):
                self._rename(found, other + found[len(one) :])

    def _rename(self, one: str, other: str) -> None:
        if one in self.folders:
            self.folders.remove(one)
            self.folders.add(other)
        else:
            self.names[other] = self.names.pop(one)

    def files(self) -> dict[str, bytes]:
        """Return what can be reached."""
        return {
            path: self.nodes.get(node, b"")
            for path, node in self.names.items()
            if self._is_reached(os.path.dirname(path))
        }

    def _is_reached(self, folder: str) -> bool:
        return all(str(one) in self.folders for one in self._above(Path(folder)))

    def _above(self, folder: Path) -> list[Path]:
        top = min(map(len, self.folders))
        return [one for one in (folder, *folder.parents) if len(str(one)) >= top]

    def lay_down(self, root: Path) -> None:
        """Make it in the place of what is at ``root``."""
        shutil.rmtree(root, ignore_errors=True)
        for folder in sorted(self.folders):
            if self._is_reached(folder) and Path(folder) != root.parent:
                Path(folder).mkdir(exist_ok=True)
        for path, content in self.files().items():
            Path(path).write_bytes(content)


class CutRun:
    """A recorded run, and what a cut at any moment may leave of it.

    What is pending was done and is not synced.
    """

    def __init__(self, before: Disk, deeds: list[Deed]) -> None:
        self._before, self.deeds = before, _with_nodes(before, deeds)
        self.versions = _versions(before, self.deeds)

    def synced(self, moment: int) -> tuple[Disk, list[Deed]]:
        """Return what is on disk for good at a moment, and what is pending."""
        disk, pending = self._before.copy(), list[Deed]()
        for deed in self.deeds[:moment]:
            if deed.name == "sync":
                pending = _settled(disk, pending, partial(_is_of, node=deed.node))
            elif deed.name == "syncdir":
                settles = partial(_is_in, folder=deed.path)
                pending = _settled(disk, pending, settles)
            elif deed.name != "seen":
                pending.append(deed)
        return disk, pending

    def states(self, moment: int, draw: random.Random) -> Iterator[Disk]:
        """Yield what may be left: nothing pending, all, all but one, one alone, any, torn ones."""
        disk, pending = self.synced(moment)
        parts: list[list[Deed]] = [[], pending]
        for number in range(len(pending)):
            parts += [pending[:number] + pending[number + 1 :], [pending[number]]]
        parts += [[one for one in pending if draw.random() < 0.5] for _ in range(4)]
        for part in parts:
            yield _done(disk, part)
            torn = [_torn(one, draw) if one.name == "write" else one for one in part]
            if torn != part:
                yield _done(disk, torn)

    def lost(self, moment: int, found: dict[str, bytes]) -> Iterator[str]:
        """Yield what was to be seen when the run went on, and is not there."""
        notes = [n for n, one in enumerate(self.deeds[:moment]) if one.name == "seen"]
        seen = notes[-1] if notes else -1
        if seen < 0:
            return
        for path, versions in self.versions.items():
            allowed = [content for at, content in versions if at <= seen][-1:]
            allowed += [content for at, content in versions if seen < at < moment]
            if allowed[:1] == [None] or not _is_kept(path):
                continue
            if not any(_is_as(found.get(path), one, path) for one in allowed):
                yield f"{path} is not as it was when the run went on, at deed {seen} of {moment}"


def _is_kept(path: str) -> bool:
    """Whether the user gets to see it: no lock, nothing unfinished."""
    return os.path.basename(path) != "lock" and "/.lpot-" not in path


def _is_as(found: bytes | None, wanted: bytes | None, path: str) -> bool:
    if found is None or wanted is None:
        return found is wanted
    return found.startswith(wanted) if path.endswith("history.jsonl") else found == wanted


def _is_of(deed: Deed, node: int) -> bool:
    return deed.is_data and deed.node == node


def _is_in(deed: Deed, folder: str) -> bool:
    return not deed.is_data and folder in deed.folders()


def _settled(disk: Disk, pending: list[Deed], settles: Any) -> list[Deed]:
    """Let what a sync settles happen, and return the rest."""
    for one in pending:
        if settles(one):
            disk.do(one)
    return [one for one in pending if not settles(one)]


def _done(disk: Disk, deeds: list[Deed]) -> Disk:
    made = disk.copy()
    for deed in deeds:
        made.do(deed)
    return made


def _torn(deed: Deed, draw: random.Random) -> Deed:
    """Return a write of which only the beginning is there, and the rest is missing or zeros."""
    kept = draw.randrange(len(deed.content) + 1)
    rest = draw.choice([b"", bytes(len(deed.content) - kept)])
    return dataclasses.replace(deed, content=deed.content[:kept] + rest)


def _with_nodes(before: Disk, deeds: list[Deed]) -> list[Deed]:
    """Return the deeds; of moves and links with the number of the file.

    A name may reach the disk though the one that it had before did not.
    """
    disk, found = before.copy(), list[Deed]()
    for deed in deeds:
        node = disk.names.get(deed.path, 0) if deed.name in ("move", "link") else deed.node
        found.append(dataclasses.replace(deed, node=node))
        disk.do(found[-1])
    return found


def _versions(before: Disk, deeds: list[Deed]) -> dict[str, list[tuple[int, bytes | None]]]:
    """Return what each file was, and from which deed on; ``None`` where it was not there."""
    disk, now = before.copy(), before.files()
    versions = {path: [(-1, content)] for path, content in now.items()}
    for number, deed in enumerate(deeds):
        disk.do(deed)
        then = disk.files()
        for path in {**now, **then}:
            if then.get(path) != now.get(path) or (path in then) != (path in now):
                versions.setdefault(path, [(-1, None)]).append((number, then.get(path)))
        now = then
    return versions  # type: ignore[return-value]


class CrashStates(Trials):
    """Builds what a cut may leave of a scene, looks at it, and now and then goes on with it."""

    def __init__(self, scene: Killable, draw: random.Random, root: Path, every: int = 10) -> None:
        super().__init__(scene, draw, root)
        self._every = every
        self._folder = self.folder()
        (self._root,) = scene.written(self._folder)
        before = Disk.of(self._root)
        deeds = recorded(scene, self._folder, root / f"{scene.name}, deeds")
        self.run = CutRun(before, deeds)
        self._known = set[int]()
        self._keep = [one for one in self._folder.iterdir() if one != self._root]

    def moment(self) -> None:
        """Look at all that may be left at one moment, and was not looked at before."""
        moment = self.draw.randint(0, len(self.run.deeds))
        for disk in self.run.states(moment, self.draw):
            key = hash((moment, tuple(sorted(disk.files().items()))))
            if key not in self._known:
                self._known.add(key)
                self._look_at(moment, disk)

    def _look_at(self, moment: int, disk: Disk) -> None:
        self.counts["states"] += 1
        disk.lay_down(self._root)
        found = {str(one): one.read_bytes() for one in self._root.rglob("*") if one.is_file()}
        for fault in self.run.lost(moment, found):
            self.fault(NOT_KEPT, self._folder, fault)
        for fault in self.scene.unreadable(self._folder):
            self.fault("unreadable files", self._folder, f"moment {moment}: {fault}")
        if self.counts["states"] % self._every == 0:
            self._go_on(moment, disk)

    def _go_on(self, moment: int, disk: Disk) -> None:
        self.counts["gone on with"] += 1
        disk.lay_down(self._root)  # whoever looks locks it
        code = self.held_together(self._folder, lambda folder: Forked(self.scene, folder).wait())
        if code:
            said = (self._folder / ERRORS).read_text()[-1500:]
            self.fault(OTHER, self._folder, f"moment {moment}: {said}")
        else:
            self.ends_as_it_should(self._folder)


def row(one: CrashStates) -> str:
    """Return a row of the table."""
    counts = " | ".join(str(one.counts[name]) for name in COUNTED)
    return f"| {one.scene.name} | {len(one.run.deeds)} | {counts} |"


def main() -> int:
    """Cut, print a table, return 1 if anything went wrong."""
    parser = parser_of(__doc__ or "", "--states", 500)
    parser.add_argument("--scene", default="", help="only those whose names have this in them")
    parser.add_argument("--every", type=int, default=10, help="every which one is gone on with")
    asked = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="lpot-states-"))
    scenes = [one for one in asked_scenes(asked.scene) if one.name in SCENES]
    warm_up_all(scenes, root / "warm")
    draw, made = random.Random(asked.seed), list[CrashStates]()
    with written_down("crash states", asked) as ledger:
        for scene in scenes:
            made.append(one := CrashStates(scene, draw, root, asked.every))
            look(one, ledger, asked.states // len(scenes))
    head = ["scene", "deeds", *COUNTED]
    sys.stdout.write(f"| {' | '.join(head)} |\n{'|---' * len(head)}|\n")
    sys.stdout.write("".join(f"{row(one)}\n" for one in made))
    faults = [fault for one in made for fault in one.faults]
    return ended(root, faults, f"{sum(one.counts['states'] for one in made)} states")


def look(one: CrashStates, ledger: Ledger, wanted: int) -> None:
    """Look at that many states, or at all that moments of chance have."""
    for _ in range(10 * wanted):
        if one.counts["states"] >= wanted:
            return
        with ledger.adding(one.counts, COUNTED):
            one.moment()


SCENES = ("tuning", "quantize after another run", "pruning", "pruning of channels")
"""Those that write all of their files through Python."""

if __name__ == "__main__":
    sys.exit(main())
