"""Where a data set lies on this machine, and what is in its files."""

from __future__ import annotations

import gzip
from pathlib import Path

from lpot_lightning.errors import DataError, in_short


def folder_of(root: str, name: str, expected: str) -> Path:
    """Return the folder that ``root`` names.

    Args:
        root: as in the YAML.
        name: of the data set.
        expected: what should be in it, for people.

    Raises:
        DataError: if there is none.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"`{name}` has the `root` `{folder}`, which is no folder; expected: {expected}; nothing"
            " is downloaded"
        )
    return folder


def content_of(path: Path) -> bytes:
    """Return the bytes of a file, unzipped if its name ends with ``.gz``.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                return file.read()
        return path.read_bytes()
    except (OSError, EOFError) as error:
        raise DataError(f"`{path}` cannot be read ({in_short(error)})") from error
