"""Archives as `torch.save` writes them: what is looked at before torch reads one."""

from __future__ import annotations

import os
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO

from lpot_lightning.machine.reading import open_regular

_HEADER, _LENGTHS = 30, 26
"""Bytes of a record's own header without its texts, and where it says how long these are."""
_AT_ONCE = 1 << 20


def check_file(path: str) -> None:
    """Refuse what a local path should not lead to: a FIFO would be waited for.

    Raises:
        OSError: if it is no regular file.
        ValueError: if it is an archive that grows when it is read, or one that torch unpacks to
            the disk.
    """
    if not os.path.exists(path):  # remote, or missing
        return
    with os.fdopen(open_regular(Path(path)), "rb") as file:
        if zipfile.is_zipfile(file):
            check_records(file, os.fstat(file.fileno()).st_size)
        if _is_tar(file):
            raise ValueError("it is a tar archive, which torch has not written since 2017")


def _is_tar(file: IO[bytes]) -> bool:
    """Whether torch would take a file for a tar archive, and write what is in it to the disk."""
    file.seek(0)
    try:
        tarfile.TarFile.open(fileobj=file, mode="r:").close()
    except tarfile.TarError:
        return False
    return True


def check_records(file: IO[bytes], size: int) -> None:
    """Refuse an archive whose records are larger than the file: ``torch.save`` compresses nothing.

    Raises:
        ValueError: if one is compressed, or they overlap.
        zipfile.BadZipFile: if it is no archive.
    """
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
    packed = [one.filename for one in records if one.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise ValueError(f"its record `{packed[0]}` is compressed, which `torch.save` never does")
    if sum(one.file_size for one in records) > size:
        raise ValueError("its records are larger than itself")


def check_sums_of(path: str) -> None:
    """Hold a local file that no hash of ours covers against the sums of its own.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is damaged.
    """
    if not os.path.exists(path):
        return
    with os.fdopen(open_regular(Path(path)), "rb") as file:
        if zipfile.is_zipfile(file):
            check_sums(file)


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
