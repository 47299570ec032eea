"""Numbered lines in a file that survive a kill."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lpot_lightning.errors import ArtifactError
from lpot_lightning.machine.files import make_folder, replace_file, set_aside
from lpot_lightning.machine.reading import open_regular, regular_bytes

MAX_BYTES = 1 << 30
"""A line of 1,000 ops has some 100 kB, and a search hundreds of them: this is ten times as much."""


def create(path: Path, content: Mapping[str, Any]) -> None:
    """Begin the file with one line: as a whole or not at all.

    Raises:
        ArtifactError: if the folder cannot be written.
    """
    with _told(path, "begun"):
        make_folder(path.parent)
        replace_file(path, _encode(0, content))


def append(path: Path, number: int, content: Mapping[str, Any]) -> None:
    """Add one line with one write, and wait until it is on disk.

    Raises:
        ArtifactError: if it cannot be written; the file is then as it was before.
    """
    with _told(path, "written"):
        size = path.stat().st_size
        try:
            _append(path, _encode(number, content))
        except OSError:
            os.truncate(path, size)
            raise


def read(path: Path) -> tuple[list[dict[str, Any]], str | None]:
    """Return what the lines hold, and one sentence if a torn last line had to be cut off.

    Raises:
        ArtifactError: if another line than the last is damaged, the first one always counting as
            such since it is written as a whole, or the file cannot be read.
    """
    records, good = peek(path)
    if good is None:
        return records, None
    return records, _cut_off(path, good, len(records) + 1)


def peek(path: Path) -> tuple[list[dict[str, Any]], int | None]:
    """Do what ``read`` does, and leave the file alone: somebody may be writing it.

    Returns:
        what the lines hold, and how many bytes are whole where a last line is torn.

    Raises:
        ArtifactError: as ``read`` does.
    """
    with _told(path, "read"):
        data = regular_bytes(path, MAX_BYTES)
    records: list[dict[str, Any]] = []
    good = 0
    for line in data.splitlines(keepends=True) if data else [b""]:
        record = _decode(line, len(records))
        if record is None:
            break
        records.append(record)
        good += len(line)
    if records and good == len(data):
        return records, None
    _refuse_unless_last(path, data, good, len(records) + 1)
    return records, good


def archive(path: Path) -> Path:
    """Rename the file to the next free ``name.1.jsonl``, ``name.2.jsonl``, …; return the new path.

    Raises:
        ArtifactError: if it cannot be renamed.
    """
    with _told(path, "renamed"):
        return set_aside(path)


def _encode(number: int, content: Mapping[str, Any]) -> bytes:
    body = json.dumps({"seq": number, **content}, allow_nan=False)
    return f'{body[:-1]}, "crc": "{zlib.crc32(body.encode()):08x}"}}\n'.encode()


def _decode(line: bytes, number: int) -> dict[str, Any] | None:
    """Return the content of a line that is exactly what ``_encode`` writes, else ``None``."""
    try:
        record = json.loads(line)
        content = {key: value for key, value in record.items() if key not in ("seq", "crc")}
        return content if _encode(number, content) == line else None
    except (ValueError, AttributeError, RecursionError):
        return None


def _refuse_unless_last(path: Path, data: bytes, good: int, number: int) -> None:
    if number > 1 and b"\n" not in data[good:-1]:
        return
    raise ArtifactError(
        f"`{path}`, line {number}: the line is damaged and what follows it cannot be trusted; "
        "restore the file from a copy, or move it away to start anew"
    )


def _cut_off(path: Path, good: int, number: int) -> str:
    with _told(path, "repaired"):
        os.truncate(path, good)
        _sync(path)
    return f"`{path}`, line {number}: the last line was not written to its end and is cut off"


def _append(path: Path, line: bytes) -> None:
    handle = open_regular(path, os.O_WRONLY | os.O_APPEND)
    try:
        if os.write(handle, line) != len(line):
            raise OSError("no room for the whole line")
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync(path: Path) -> None:
    handle = open_regular(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _told(path: Path, deed: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArtifactError(
            f"`{path}` cannot be {deed}: {error.strerror or error}; free the folder for writing "
            "or choose another `tuning.workspace.path`"
        ) from error
