"""The sums that `torch.save` puts beside each record of an archive."""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import IO

_HEADER, _LENGTHS = 30, 26
"""Bytes of a record's own header without its texts, and where it says how long these are."""
_AT_ONCE = 1 << 20


def check_sums(file: IO[bytes]) -> None:
    """Hold each record of an archive against its CRC-32, for files that no other hash covers.

    What was written with ``torch.serialization.set_crc32_options(False)`` has none.

    Args:
        file: whose records are known to be stored as they are.

    Raises:
        ValueError: naming the first record that is damaged.
    """
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
    if not any(one.CRC for one in records):
        return
    for one in records:
        if _sum_of(file, one) != one.CRC:
            raise ValueError(f"its record `{one.filename}` is not what was written: it is damaged")


def _sum_of(file: IO[bytes], record: zipfile.ZipInfo) -> int:
    file.seek(record.header_offset + _LENGTHS)
    file.seek(record.header_offset + _HEADER + sum(struct.unpack("<HH", file.read(4))))
    found, left = 0, record.file_size
    while left and (piece := file.read(min(left, _AT_ONCE))):
        found, left = zlib.crc32(piece, found), left - len(piece)
    return found
