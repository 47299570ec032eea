"""Batches of any form, and how a model is called with them."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lpot_lightning.data.batches import Call, call_with, collect, samples_in
from lpot_lightning.errors import DataError

A, B, LABEL = torch.ones(4, 2), torch.zeros(4, 3), torch.arange(4)


def taken(loader, size: int = 8):
    return collect(loader, size, origin="the data", seed=1)


@pytest.mark.parametrize(
    ("batch", "args", "kwargs"),
    [
        (A, (A,), {}),
        ([A], (A,), {}),
        ((A, LABEL), (A,), {}),
        ([A, LABEL], (A,), {}),
        (((A, B), LABEL), (A, B), {}),
        ([[A, B], LABEL], (A, B), {}),
        (((A, {"b": B}), LABEL), (A, {"b": B}), {}),
        (({"a": A, "b": B}, LABEL), (), {"a": A, "b": B}),
        ({"a": A, "labels": LABEL}, (), {"a": A, "labels": LABEL}),
        (UserDict(a=A), (), {"a": A}),
        ("text", ("text",), {}),
    ],
)
def test_what_a_model_is_called_with(batch, args, kwargs) -> None:
    found = call_with(batch)
    assert str(found.args) == str(args)
    assert str(found.kwargs) == str(kwargs)


@pytest.mark.parametrize("batch", [(), (A, B, LABEL)])
def test_other_tuples_are_told(batch) -> None:
    with pytest.raises(DataError, match=rf"the data: a batch is a `tuple` of {len(batch)}; all"):
        taken([batch])


def test_a_model_is_called_with_names() -> None:
    class Two(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a.sum() - b.sum()

    assert Call((A,), {"b": B}).of(Two()) == 8


def test_whole_batches_are_taken_until_there_are_enough() -> None:
    def endless() -> Iterator[Tensor]:
        while True:
            yield A

    found = taken(endless(), 9)
    assert (len(found.calls), found.samples, found.origin) == (3, 12, "the data")
    assert taken(["no", "tensor", "here"], 2).samples == 2


def test_shuffled_data_are_the_same_each_time() -> None:
    rows = TensorDataset(torch.arange(100.0)[:, None])
    own = torch.Generator().manual_seed(7)
    for generator in (None, own):
        loader = DataLoader(rows, 8, shuffle=True, generator=generator)
        state = torch.get_rng_state(), own.get_state()
        one, other = taken(loader), taken(loader)
        assert torch.equal(one.calls[0].args[0], other.calls[0].args[0])
        assert not torch.equal(one.calls[0].args[0].flatten(), torch.arange(8.0))
        assert torch.equal(torch.get_rng_state(), state[0])
        assert torch.equal(own.get_state(), state[1])


def test_data_that_fail_or_are_not_there_are_told() -> None:
    def failing() -> Iterator[Tensor]:
        yield A
        raise OSError("the disk is gone")

    with pytest.raises(DataError, match=r"the data cannot be read after 1 batches \(OSError: the"):
        taken(failing())
    with pytest.raises(DataError, match="the data is empty"):
        taken([])


@pytest.mark.parametrize(
    ("batch", "count"),
    [
        ([torch.zeros(3, 2), torch.zeros(3)], 3),
        ({"weight": torch.tensor(1.0), "x": torch.zeros(4, 1)}, 4),
        (["text", 1], 1),
        (object(), 1),
    ],
)
def test_samples_are_counted_by_the_first_tensor(batch, count):
    assert samples_in(batch) == count
