"""A hash over whatever objects hold."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from lpot_lightning.module import contents
from lpot_lightning.module.contents import Untold, contents_hash


def hashed(**attributes):
    model = nn.Sequential(nn.Linear(2, 2), nn.LSTM(2, 2))
    for one in model.parameters():
        nn.init.ones_(one)
    vars(model).update(attributes)
    return contents_hash(model, lambda module: frozenset())


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held):
        self.held = held


CHANGES = [
    (1.0, 2.0),
    (torch.ones(2), torch.zeros(2)),
    (np.ones(2), np.zeros(2)),
    ([1] * 300, [1] * 299 + [2]),
    ({"a": {1}}, {"a": {2}}),
    (Slotted(1), Slotted(2)),
    (random.Random(1), random.Random(2)),
    (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)),
    ([nn.Linear(2, 2).requires_grad_(False)], [nn.Linear(2, 2)]),
]


@pytest.mark.parametrize(("one", "other"), CHANGES)
def test_an_attribute_that_changes_is_seen(one, other):
    assert hashed(_held=one) != hashed(_held=other)
    assert hashed(_held=one) == hashed(_held=copy.copy(one))


def test_a_copy_is_the_same_and_circles_end():
    model = nn.LSTM(2, 2)
    model.me = [model]
    hashes = {contents_hash(one, lambda _: frozenset()) for one in (model, copy.deepcopy(model))}
    assert len(hashes) == 1


def test_what_cannot_be_seen_is_told(monkeypatch):
    monkeypatch.setattr(contents, "MOST_BYTES", 1000)
    with pytest.raises(Untold, match="more than 1,000 bytes in attributes"):
        hashed(data=torch.ones(500))
    with pytest.raises(Untold, match="no values"):
        hashed(data=torch.ones(2, device="meta"))
    with pytest.raises(Untold):
        hashed(data=torch.eye(2).to_sparse())
