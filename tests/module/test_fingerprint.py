"""Hashes that files hold, which the next versions of us and of torch have to find as well."""

from collections import OrderedDict

import pytest
import torch

from lpot_lightning.module.fingerprint import content_hash

PLAIN = {"op": {"fc": [1, 2.5, "1", None, True, {}, []]}, 3: [[{"a": "x"}], "y"]}
HASH = "ced23b8be991aee6cd8a799e6e2fae4ece3e43302de95a77e7e9dcc90257e48b"


def test_the_hash_of_plain_values_is_that_of_files_there_are():
    assert content_hash(PLAIN) == HASH


@pytest.mark.parametrize(
    "other",
    [
        {**PLAIN, 3: [[{"a": "x"}, "y"]]},
        {**PLAIN, 3: [[{"a": "x"}], "z"]},
        {**PLAIN, "op": {"fc": [1, 2.5, 1, None, True, {}, []]}},
        {**PLAIN, "op": {"fc": [1, 2.5, "1", None, True, [], {}]}},
        {3: PLAIN[3], "op": PLAIN["op"]},
        OrderedDict(PLAIN),
        (PLAIN,),
        {**PLAIN, "t": torch.ones(2)},
    ],
)
def test_other_values_have_another_one(other):
    assert content_hash(other) != HASH
    assert content_hash(other) == content_hash(other)
