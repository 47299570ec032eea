"""Where a data set lies on this machine, and what is in its files."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from contextlib import suppress
from pathlib import Path

from lpot_lightning.errors import DataError, in_short
from lpot_lightning.machine.reading import regular_bytes, too_large, without_tilde

MAX_BYTES = 1 << 30
"""Of a file."""
MAX_UNZIPPED = 640 << 20
"""Of what is in one that is zipped: the largest of EMNIST's has 547 MB."""
_CHUNK = 16 << 20


def folder_of(root: str, name: str, expected: str) -> Path:
    """Return the folder that ``root`` names.

    Args:
        root: as in the YAML.
        name: of the data set.
        expected: what should be in it, for people.

    Raises:
        DataError: if there is none.
    """
    folder = place_of(root, name)
    if not folder.is_dir():
        raise DataError(
            f"`{name}` has the `root` `{folder}`, which is no folder; expected: {expected}; nothing"
            " is downloaded"
        )
    return folder


def place_of(path: str, name: str) -> Path:
    """Return the path that the data set ``name`` is given, with ``~`` expanded.

    Raises:
        DataError: if there is no such user, or it is too long to be a path.
    """
    try:
        found = without_tilde(path)
        with suppress(FileNotFoundError, NotADirectoryError, ValueError):  # who opens it says so
            os.lstat(found)  # what it says of a path that is too long; `exists` has it both ways
        return found
    except OSError as error:
        raise DataError(f"`{name}` is given `{path}`: {error.strerror}") from error


def content_of(path: Path, most: int = MAX_BYTES) -> bytes:
    """Return the bytes of a regular file, unzipped if its name ends with ``.gz``.

    Raises:
        DataError: if it cannot be read, is no file, holds more than ``most``, or more than
            ``MAX_UNZIPPED`` when it is unzipped.
    """
    try:
        content = regular_bytes(path, most)
        is_zipped = path.suffix == ".gz"
        return _unzipped(content, min(most, MAX_UNZIPPED)) if is_zipped else content
    except (OSError, EOFError, ValueError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or in_short(error)
        raise DataError(f"`{path}` cannot be read ({reason})") from error


def _unzipped(content: bytes, most: int) -> bytes:
    """Return what is packed, read in parts: some MB can stand for more than there is memory."""
    found = io.BytesIO()
    with gzip.open(io.BytesIO(content)) as file:
        while part := file.read(_CHUNK):
            if found.tell() + len(part) > most:
                raise too_large(found.tell() + len(part), most)
            found.write(part)
    return found.getvalue()
