"""What is looked at between two batches."""

import types
from collections import UserDict

import numpy as np
import pytest
import torch

from lpot_lightning.trainer.watched_pass import checksum

CHANGES = {
    "a number": lambda: [torch.tensor([1.0, 2.0]), "a", 1],
    "another one": lambda: [torch.tensor([1.0, 3.0]), "a", 1],
    "a text": lambda: [torch.tensor([1.0, 2.0]), "b", 1],
    "a plain number": lambda: [torch.tensor([1.0, 2.0]), "a", 2],
    "an order": lambda: [torch.tensor([2.0, 1.0]), "a", 1],
    "an array": lambda: [np.array([5.0, 2.0]), "a", 1],
    "an object": lambda: [types.SimpleNamespace(x=torch.tensor([6.0, 2.0])), "a", 1],
    "one in another": lambda: [UserDict(x=types.SimpleNamespace(x=torch.ones(2))), "a", 1],
    "columns": lambda: [torch.arange(6.0).reshape(2, 3).t(), "a", 1],
    "half": lambda: [torch.tensor([1.0, 2.5], dtype=torch.bfloat16), "a", 1],
}


def test_a_checksum_tells_batches_apart_and_is_the_same_for_the_same():
    found = {name: checksum(make(), 0) for name, make in CHANGES.items()}
    assert len(set(found.values())) == len(CHANGES)
    assert found == {name: checksum(make(), 0) for name, make in CHANGES.items()}


def test_a_checksum_is_of_all_batches_so_far():
    batch = [torch.ones(2)]
    assert checksum(batch, checksum(batch, 0)) != checksum(batch, 0)


@pytest.mark.parametrize(
    "leaf",
    [
        torch.eye(2).to_sparse(),
        torch.empty(0),
        torch.tensor(True),
        torch.zeros(1000, 1000),
        torch.eye(3).t()[:, 1],
        object(),
        None,
    ],
)
def test_any_batch_has_a_checksum(leaf):
    assert isinstance(checksum([leaf], 7), int)
