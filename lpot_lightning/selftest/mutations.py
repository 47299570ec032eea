"""Damage to a file: bits, bytes, blocks, ends."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

BLOCKS = (16, 64, 512, 4096)
Damage = Callable[[bytes, random.Random], bytes]


def flipped_bit(content: bytes, draw: random.Random) -> bytes:
    """Return ``content`` with one bit changed."""
    place = draw.randrange(len(content))
    return with_part(content, place, bytes([content[place] ^ 1 << draw.randrange(8)]))


def other_byte(content: bytes, draw: random.Random) -> bytes:
    """Return ``content`` with one byte changed."""
    place = draw.randrange(len(content))
    return with_part(content, place, bytes([(content[place] + draw.randrange(1, 256)) % 256]))


def zeroed_block(content: bytes, draw: random.Random) -> bytes:
    """Return ``content`` with zeros in the place of a block, as a lost sector leaves it."""
    size = min(len(content), draw.choice(BLOCKS))
    place = draw.randrange(0, len(content), size)
    return with_part(content, place, bytes(min(size, len(content) - place)))


def cut_off(content: bytes, draw: random.Random) -> bytes:
    """Return the beginning of ``content``."""
    return content[: draw.randrange(len(content))]


def repeated_part(content: bytes, draw: random.Random) -> bytes:
    """Return ``content`` with a part of it twice."""
    start, end = sorted(draw.sample(range(len(content) + 1), 2))
    return content[:end] + content[start:]


DAMAGES: tuple[Damage, ...] = (flipped_bit, other_byte, zeroed_block, cut_off, repeated_part)


def damaged(content: bytes, draw: random.Random) -> Iterator[bytes]:
    """Yield damaged forms of ``content`` without end, all kinds in turn, none equal to it."""
    while content:
        for damage in DAMAGES:
            made = damage(content, draw)
            if made != content:
                yield made


def with_part(content: bytes, place: int, part: bytes) -> bytes:
    """Return ``content`` with ``part`` in the place of what is there."""
    return content[:place] + part + content[place + len(part) :]
