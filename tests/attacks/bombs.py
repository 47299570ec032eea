"""A little that stands for much, made of one part that is packed once."""

from __future__ import annotations

import struct
import zlib
from functools import cache

PART = 16 << 20
GZIP = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_LOCAL, _CENTRAL, _END = "<4s5H3I2H", "<4s6H3I5H2I", "<4s4H2IH"


@cache
def _part() -> bytes:
    """Return 16 MiB of zeros, packed so that it may be followed by itself."""
    packer = zlib.compressobj(9, wbits=-15)
    return packer.compress(bytes(PART)) + packer.flush(zlib.Z_FULL_FLUSH)


def deflated(parts: int) -> bytes:
    """Return a stream of ``parts`` times 16 MiB."""
    return _part() * parts + zlib.compressobj(9, wbits=-15).flush()


@cache
def _sum(parts: int) -> int:
    found = 0
    for _ in range(parts):
        found = zlib.crc32(bytes(PART), found)
    return found


def gzipped(parts: int) -> bytes:
    """Return a gzip file of ``parts`` times 16 MiB of zeros."""
    tail = struct.pack("<2I", _sum(parts), parts * PART & 0xFFFFFFFF)
    return GZIP + deflated(parts) + tail


def zipped(parts: int, *names: str) -> bytes:
    """Return an archive whose records have ``parts`` times 16 MiB of zeros each."""
    body, directory, packed = b"", b"", deflated(parts)
    told = _sum(parts), len(packed), parts * PART
    for name in names:
        held = (20, 0, 8, 0, 0x21, *told, len(name), 0)
        here, place = struct.pack(_LOCAL, b"PK\3\4", *held) + name.encode(), len(body)
        entry = struct.pack(_CENTRAL, b"PK\1\2", 20, *held, 0, 0, 0, 0, place)
        body, directory = body + here + packed, directory + entry + name.encode()
    sizes = (len(names), len(names), len(directory), len(body), 0)
    return body + directory + struct.pack(_END, b"PK\5\6", 0, 0, *sizes)
