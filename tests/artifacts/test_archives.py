"""Each record of an archive is held against the sum that `torch.save` has put beside it."""

import io

import pytest
import torch

from lpot_lightning.artifacts.archives import check_sums

HELD = {"a": torch.arange(600_000.0), "b": torch.zeros(0), "c": torch.ones(3)}


def written():
    buffer = io.BytesIO()
    torch.save(HELD, buffer)
    return bytearray(buffer.getvalue())


def test_what_was_written_is_let_pass():
    check_sums(io.BytesIO(written()))


@pytest.mark.parametrize("name", ["a", "c"])
def test_one_bit_of_any_record_is_told(name):
    content = written()
    place = content.index(HELD[name].numpy().tobytes()) + HELD[name].nbytes - 1
    content[place] ^= 64
    with pytest.raises(ValueError, match=r"its record `.*/data/\d` is not what was written"):
        check_sums(io.BytesIO(content))


def test_what_was_written_without_sums_has_none(monkeypatch):
    torch.serialization.set_crc32_options(False)
    try:
        content = written()
    finally:
        torch.serialization.set_crc32_options(True)
    check_sums(io.BytesIO(content))
