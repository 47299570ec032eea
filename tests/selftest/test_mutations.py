"""Damage that is never none."""

from __future__ import annotations

import random
from itertools import islice

from lpot_lightning.selftest.mutations import DAMAGES, cut_off, damaged, flipped_bit, zeroed_block

CONTENT = bytes(range(1, 250)) * 5


def test_each_kind_changes_something():
    draw = random.Random(0)
    for damage in DAMAGES:
        assert all(damage(CONTENT, draw) != CONTENT for _ in range(20))


def test_what_the_kinds_are():
    draw = random.Random(0)
    flipped = flipped_bit(CONTENT, draw)
    assert sum((a ^ b).bit_count() for a, b in zip(CONTENT, flipped, strict=True)) == 1
    assert CONTENT.startswith(cut_off(CONTENT, draw))
    assert b"\0" in zeroed_block(CONTENT, draw)


def test_the_same_seed_gives_the_same_damage():
    once, again = (list(islice(damaged(CONTENT, random.Random(7)), 50)) for _ in range(2))
    assert once == again
    assert list(damaged(b"", random.Random(0))) == []
