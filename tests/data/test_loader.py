"""Data sets of the user's in batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, SequentialSampler

from lpot_lightning import Quantization
from lpot_lightning.data.loader import dataloader_of
from lpot_lightning.errors import ConfError, DataError

NUMBERED = [(torch.full((2,), float(number)), number) for number in range(5)]


class Streamed:
    """Is gone through."""

    def __iter__(self) -> Iterator[Any]:
        return iter(NUMBERED)


class Items:
    """Has items by number, and does not say how many."""

    def __getitem__(self, index: int) -> Any:
        return NUMBERED[index]


class Both(Streamed):
    """Says different things by number and in a loop."""

    def __getitem__(self, index: int) -> Any:
        return torch.zeros(2), index + 100

    def __len__(self) -> int:
        return 2


def labels(loader: DataLoader[Any]) -> list[list[int]]:
    return [label.tolist() for _, label in loader]


@pytest.mark.parametrize("dataset", [NUMBERED, Streamed(), Items()])
def test_by_number_or_in_a_loop(dataset: Any) -> None:
    loader = dataloader_of(dataset, batch_size=2)
    assert labels(loader) == [[0, 1], [2, 3], [4]]
    assert labels(loader) == [[0, 1], [2, 3], [4]]
    assert labels(dataloader_of(dataset, 2, last_batch="discard")) == [[0, 1], [2, 3]]


def test_numbers_come_before_the_loop() -> None:
    assert labels(dataloader_of(Both())) == [[100], [101]]


def test_all_that_lpot_takes() -> None:
    def collate(samples: list[Any]) -> Any:
        return len(samples), torch.tensor([label for _, label in samples])

    given = {"sampler": SequentialSampler(range(3)), "collate_fn": collate, "pin_memory": False}
    assert [size for size, _ in dataloader_of(NUMBERED, 2, **given)] == [2, 1]
    assert labels(dataloader_of(NUMBERED, batch_sampler=[[4, 0], [1]])) == [[4, 0], [1]]
    shuffled = [one for (one,) in labels(dataloader_of(NUMBERED, shuffle=True))]
    assert sorted(shuffled) == list(range(5))


def test_workers_share_what_is_gone_through() -> None:
    found = labels(dataloader_of(Streamed(), num_workers=2))
    assert sorted(one for (one,) in found) == list(range(5))


def test_the_method_is_the_same() -> None:
    assert Quantization.dataloader is dataloader_of


class Stream(IterableDataset[Any]):
    """Torch's own kind."""

    def __iter__(self) -> Iterator[Any]:
        return iter(NUMBERED)


def test_torchs_own_streams() -> None:
    assert labels(dataloader_of(Stream(), 3)) == [[0, 1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("dataset", "given", "kind", "match"),
    [
        (3, {}, ConfError, "`dataset` is a `int`; allowed: an object with `__getitem__"),
        ("cats", {}, ConfError, "`dataset` is a `str`; allowed"),
        (Streamed, {}, ConfError, "`dataset` is a `type`; allowed: an object"),
        (DataLoader(NUMBERED), {}, ConfError, "`dataset` is a `DataLoader` already"),
        ([], {}, DataError, "`dataset`, a `list`, is empty"),
        (NUMBERED, {"batch_size": 0}, ConfError, "`batch_size` is `0`; allowed: a whole number"),
        (NUMBERED, {"batch_size": True}, ConfError, "`batch_size` is `True`"),
        (NUMBERED, {"last_batch": "drop"}, ConfError, "`last_batch` is `'drop'`; allowed: `roll"),
        (Streamed(), {"shuffle": True}, ConfError, "`Streamed` has no `__getitem__` and `__len__`"),
        (Streamed(), {"sampler": [1]}, ConfError, "nobody can choose its samples"),
        (Streamed(), {"batch_sampler": [[1]]}, ConfError, "nobody can choose its samples"),
        (NUMBERED, {"num_workers": -1}, ConfError, r"no `DataLoader` can be made .*num_workers"),
        (NUMBERED, {"sampler": [1], "shuffle": True}, ConfError, "mutually exclusive"),
    ],
)
def test_what_is_no_dataset(dataset, given, kind, match: str) -> None:
    with pytest.raises(kind, match=match):
        dataloader_of(dataset, **given)
