"""Which batches are shown."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lpot_lightning.errors import DataError
from lpot_lightning.timing.held_batches import hold


def loader(count, **given):
    return DataLoader(TensorDataset(torch.arange(count), torch.zeros(count)), batch_size=4, **given)


def sizes(batches, most=None):
    return [len(call.args[0]) for call in hold(batches, most, origin="`b_dataloader`", seed=1)]


def test_all_of_them_but_a_last_one_that_is_smaller():
    assert sizes(loader(8)) == [4, 4]
    assert sizes(loader(9)) == [4, 4]
    assert sizes(loader(3)) == [3]


def test_as_many_as_are_asked_for():
    assert sizes(loader(100), most=3) == [4, 4, 4]
    assert sizes(loader(8), most=3) == [4, 4]


def test_more_than_memory_should_hold_is_not_read(monkeypatch):
    monkeypatch.setattr("lpot_lightning.timing.held_batches.MOST_BYTES", 3 * 4 * 8)
    assert sizes(loader(100)) == [4, 4, 4]


def test_what_shuffles_does_it_the_same_way_each_time():
    batches = [hold(loader(40, shuffle=True), 2, origin="it", seed=5) for _ in range(2)]
    assert [[c.args[0].tolist() for c in one] for one in batches][0] == [
        c.args[0].tolist() for c in batches[1]
    ]


@pytest.mark.parametrize(
    ("batches", "text"),
    [
        ([], "`b_dataloader` is empty: there is no batch to show the model"),
        ([(1, 2, 3)], "`b_dataloader`: a batch is a `tuple` of 3; allowed: `(input, label)`"),
        (
            (1 / 0 for _ in range(3)),
            "`b_dataloader` cannot be read after 0 batches (ZeroDivisionError: division by zero)",
        ),
    ],
)
def test_loaders_that_give_nothing(batches, text):
    with pytest.raises(DataError) as caught:
        hold(batches, None, origin="`b_dataloader`", seed=1)
    assert str(caught.value).startswith(text)
