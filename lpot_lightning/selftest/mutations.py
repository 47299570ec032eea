"""Damage to a file: bits, bytes, blocks, ends."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

BLOCK = 512
Damage = Callable[[bytes, random.Random], bytes]


def flipped_bit(content: bytes, draw: random.Random) -> bytes:
    """Return ``content`` with one bit changed."""
    place = draw.randrange(len(content))
    return _with(content, place, bytes([content[place] ^ 1 << draw.randrange(8)]))


def other_byte(content: bytes, draw: random.Random) -> bytes:
    """Return ``content`` with one byte changed."""
    place = draw.randrange(len(content))
    return _with(content, place, bytes([(content[place] + draw.randrange(1, 256)) % 256]))


def zeroed_block(content: bytes, draw: random.Random) -> bytes:
    """Return ``content`` with zeros in the place of a block, as a lost sector leaves it."""
    place = draw.randrange(len(content))
    return _with(content, place, bytes(min(BLOCK, len(content) - place)))


def cut_off(content: bytes, draw: random.Random) -> bytes:
    """Return the beginning of ``content``."""
    return content[: draw.randrange(len(content))]


def repeated_part(content: bytes, draw: random.Random) -> bytes:
    """Return ``content`` with a part of it twice."""
    start = draw.randrange(len(content))
    end = min(len(content), start + draw.randrange(1, BLOCK))
    return content[:end] + content[start:]


DAMAGES: tuple[Damage, ...] = (flipped_bit, other_byte, zeroed_block, cut_off, repeated_part)


def damaged(content: bytes, draw: random.Random) -> Iterator[bytes]:
    """Yield damaged forms of ``content`` without end, all kinds in turn, none equal to it."""
    while content:
        for damage in DAMAGES:
            made = damage(content, draw)
            if made != content:
                yield made


def _with(content: bytes, place: int, part: bytes) -> bytes:
    return content[:place] + part + content[place + len(part) :]
