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


def create(path: Path, content: Mapping[str, Any]) -> None:
    """Begin the file with one line: as a whole or not at all.

    Raises:
        ArtifactError: if the folder cannot be written.
    """
    temp = path.with_name(f".{path.name}.tmp")
    with _told(path, "begun"):
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
        try:
            _write(temp, flags, _encode(0, content))
            os.replace(temp, path)
        except OSError:
            temp.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def append(path: Path, number: int, content: Mapping[str, Any]) -> None:
    """Add one line with one write, and wait until it is on disk.

    Raises:
        ArtifactError: if it cannot be written; the file is then as it was before.
    """
    with _told(path, "written"):
        size = path.stat().st_size
        try:
            _write(path, os.O_WRONLY | os.O_APPEND, _encode(number, content))
        except OSError:
            os.truncate(path, size)
            raise


def read(path: Path) -> tuple[list[dict[str, Any]], str | None]:
    """Return what the lines hold, and one sentence if a torn last line had to be cut off.

    Raises:
        ArtifactError: if another line than the last is damaged, the first one always counting as
            such since it is written as a whole, or the file cannot be read.
    """
    with _told(path, "read"):
        data = path.read_bytes()
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
    return records, _cut_off(path, good, len(records) + 1)


def archive(path: Path) -> Path:
    """Rename the file to the next free ``name.1.jsonl``, ``name.2.jsonl``, …; return the new path.

    Raises:
        ArtifactError: if it cannot be renamed.
    """
    number = 1
    while (kept := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    with _told(path, "renamed"):
        os.rename(path, kept)
        _sync_folder(path.parent)
    return kept


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
        _sync(path, os.O_RDWR)
    return f"`{path}`, line {number}: the last line was not written to its end and is cut off"


def _write(path: Path, flags: int, line: bytes) -> None:
    handle = os.open(path, flags, 0o666)
    try:
        if os.write(handle, line) != len(line):
            raise OSError("no room for the whole line")
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    if os.name != "nt":  # Windows cannot open a folder to sync it.
        _sync(folder, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
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
