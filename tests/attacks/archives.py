"""Archives that lie: bombs, records that overlap, names that lead elsewhere."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import bombs
from attack import Attack, Content, written
from pickles import CONTAINERS, called, pair_up, text, whole, zipped
from sealing import seal_again

EMPTY = whole(pair_up())
_CENTRAL, _END = b"PK\x01\x02", b"PK\x05\x06"


def made(*records: tuple[str, bytes], packed: int = zipfile.ZIP_STORED, note: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packed) as archive:
        for name, content in records:
            archive.writestr(name, content)
        archive.comment = note
    return buffer.getvalue()


def patched(content: bytes, at: int, form: str, value: int, *, mark: bytes = _CENTRAL) -> bytes:
    """Return an archive in which a number of its first central record is another one."""
    changed = bytearray(content)
    struct.pack_into(form, changed, content.index(mark) + at, value)
    return bytes(changed)


def _packed_by_lzma() -> bytes:
    held = ("archive/data.pkl", EMPTY), ("archive/data/0", bytes(32 << 20))
    return made(*held, packed=zipfile.ZIP_LZMA)


def _overlapping() -> bytes:
    """Return an archive of 2,000 records of 1 MB that are all the same bytes."""
    body = made(("archive/data.pkl", EMPTY), ("archive/data/0", bytes(1 << 20)))
    start, end = body.index(_CENTRAL), body.index(_END)
    last = body.rindex(_CENTRAL)
    entries = body[start:last] + body[last:end] * 2000
    head = struct.pack("<4sHHHHIIH", _END, 0, 0, 2001, 2001, len(entries), start, 0)
    return body[:start] + entries + head


def _names(*names: str) -> bytes:
    return made(("archive/data.pkl", EMPTY), *((one, b"x") for one in names))


_PLAIN = zipped(EMPTY)
CALL = whole(called("os", "system", text("touch MARKER")))
ARCHIVES: dict[str, Content] = {
    "an archive of nothing": made(),
    "no `data.pkl`": made(("archive/version", b"3\n")),
    "two `data.pkl`": made(("archive/data.pkl", EMPTY), ("other/data.pkl", CALL)),
    "a record twice": _PLAIN[: _PLAIN.index(_CENTRAL)] + _PLAIN[_PLAIN.index(_CENTRAL) :] * 2,
    "records that overlap": _overlapping,
    "names that lead up": _names("archive/../../MARKER", "../MARKER"),
    "absolute names": _names("/tmp/MARKER", "archive//etc/passwd"),
    "a name of 60,000 bytes": _names("archive/" + "x" * 60_000),
    "names with line ends": _names("archive/\n\r\x1b[31m", "archive/\u202eexe"),
    "60,000 records": lambda: _names(*(f"archive/data/{one}" for one in range(60_000))),
    "a note of 65,535 bytes": made(("archive/data.pkl", EMPTY), note=b"PK\x05\x06" * 16_000),
    "a version that is text": zipped(EMPTY, **{".format_version": b"x" * 5000}),
    "a version of 10**4000": made(("archive/data.pkl", EMPTY), ("archive/version", b"9" * 4000)),
    "another byte order": made(("archive/data.pkl", EMPTY), ("archive/byteorder", b"middle")),
    "encrypted": patched(_PLAIN, 8, "<H", 1),
    "packed by what is none": patched(_PLAIN, 10, "<H", 97),
    "a size of 4 GB": patched(patched(_PLAIN, 24, "<I", 0xFFFFFFFE), 20, "<I", 0xFFFFFFFE),
    "a header beyond the end": patched(_PLAIN, 42, "<I", 0x7FFFFFFF),
    "a link": patched(_PLAIN, 38, "<I", 0o120777 << 16),
    "a directory of 2**32": patched(_PLAIN, 12, "<I", 0xFFFFFFF0, mark=_END),
    "65,535 records and none": patched(_PLAIN, 10, "<H", 0xFFFF, mark=_END),
    "in front of it a script": b"#!/bin/sh\ntouch MARKER\n" + _PLAIN,
    "a script": b"#!/bin/sh\ntouch MARKER\n",
    "behind it more": _PLAIN + b"\x00" * 5000,
    "TorchScript": zipped(EMPTY, **{"constants.pkl": EMPTY, "code/__torch__.py": b"import os"}),
    "a package of torch": zipped(EMPTY, **{".data/extern_modules": b"os", "x.py": b"raise"}),
    "an ELF library": b"\x7fELF\x02\x01\x01" + bytes(4000),
    "bytecode of Python": b"\xcb\r\r\n" + bytes(12) + b"\xe3" + bytes(200),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(2000),
    "safetensors that lie": struct.pack("<Q", 1 << 60) + b"{}",
    "gzip": b"\x1f\x8b\x08" + bytes(200),
    "zeros": bytes(1 << 16),
    "nothing": b"",
}  # fmt: skip
GIB = (1 << 30) // bombs.PART
BOMBS: dict[str, Callable[[], bytes]] = {
    "a bomb of lzma": _packed_by_lzma,
    "a `data.pkl` of 1 GiB in 1 MiB": lambda: bombs.zipped(GIB, "archive/data.pkl"),
    "a storage of 1 GiB": lambda: bombs.zipped(GIB, "archive/data/0", "archive/data.pkl"),
    "8 records of 3 GiB": lambda: bombs.zipped(
        3 * GIB, "archive/data.pkl", *(f"archive/data/{number}" for number in range(7))
    ),
}
PLACES = ("weights", "pruned weights", "int8 checkpoint", "QAT checkpoint", "weights of a fit")
PROGRAMS = {"program": "model.pt2", "TorchScript": "model.ts", "compiled": "model.aoti.pt2"}


def archives() -> Iterator[Attack]:
    """Yield each archive in the place of each file that is one."""
    for name, content in ARCHIVES.items():
        for place in PLACES:
            door, file, _ = CONTAINERS[place]
            yield Attack(f"archive: {name} as {place}", door, _put(file, content))
    for name, make in BOMBS.items():
        for place in PLACES:
            door, file, _ = CONTAINERS[place]
            yield Attack(f"archive: {name} as {place}", door, _put(file, make))
        for door, file in PROGRAMS.items():
            yield Attack(f"archive: {name} as `{file}`", door, _put(file, make))


def _put(file: str, content: Content) -> Callable[[Path], object]:
    def put(folder: Path) -> None:
        written(file, content)(folder)
        seal_again(folder)

    return put
