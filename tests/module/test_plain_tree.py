"""Trees of plain values: there and back, and what is none."""

import enum

import numpy as np
import pytest
import torch
import yaml

from lpot_lightning.errors import ArtifactError
from lpot_lightning.machine.plain_yaml import read_plain_yaml
from lpot_lightning.module.plain_tree import MOST_VALUES, NotPlain, from_plain, to_plain


def by_yaml(plain):
    return read_plain_yaml(yaml.safe_dump(plain, default_flow_style=None).encode())


@pytest.mark.parametrize(
    "value",
    [
        True, 0, -1.5, 1e-300, -0.0, float("inf"), -float("inf"), "text", "", None, [], (), {},
        (1, [2.0, "a"]), {"a": (None,), 3: {"b": []}}, "yes", "1e3", "2001-01-01", "\x85\u2028é😀",
    ],
)  # fmt: skip
def test_a_value_comes_back_from_a_file_as_it_was(value):
    again = from_plain(by_yaml(to_plain(value)))
    assert repr(again) == repr(value)


def test_what_is_no_number_survives():
    again = from_plain(by_yaml(to_plain((float("nan"), 1))))
    assert again[0] != again[0]


def test_tensors_come_back_by_their_numbers():
    one, two, found = torch.ones(1), torch.zeros(2), []

    def number_of(tensor):
        found.append(tensor)
        return len(found) - 1

    plain = by_yaml(to_plain({"x": one, "y": [two, one]}, number_of))
    again = from_plain(plain, found)
    assert again["x"] is one
    assert again["y"][0] is two


def test_a_number_of_numpy_is_a_number():
    assert to_plain(np.float64(0.25)) == 0.25
    assert type(to_plain(np.int32(3))) is int


class Kind(enum.IntEnum):
    ONE = 1


ITSELF: list = []
ITSELF.append(ITSELF)


@pytest.mark.parametrize(
    "value",
    [
        object(), Kind.ONE, torch.ones(1), {1, 2}, torch.Size([1]), 1 << 70, "\ud800", "x" * 3000,
        {(1, 2): 3}, ITSELF, [0] * (MOST_VALUES + 1), 1j,
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_no_file_holds_is_told(value):
    with pytest.raises(NotPlain):
        to_plain(value)


@pytest.mark.parametrize(
    "plain",
    [
        {}, {"list": 3}, {"tuple": {}}, {"dict": [1]}, {"dict": [[[], 1]]}, {"tensor": 0},
        {"tensor": True}, {"list": [], "tuple": []}, {"set": []}, [1], {"tensor": -1},
    ],
    ids=str,
)  # fmt: skip
def test_a_forged_value_is_refused(plain):
    with pytest.raises(ArtifactError, match="is no value of a file of ours"):
        from_plain(plain)
