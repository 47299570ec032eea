"""First calls of modules: as much of them as a file may hold."""

import dataclasses

import pytest
import torch
from torch import nn
from zoo import Made

from lpot_lightning.artifacts.first_calls import MAX_BYTES, first_calls
from lpot_lightning.module.calls import recorded


def calls_of(model, *args, **kwargs):
    with torch.no_grad(), recorded(model) as calls:
        model(*args, **kwargs)
    return first_calls(model, calls)


def lengths(call):
    return [[len(one) for one in given] for given in call.tries]


def test_a_few_samples_one_sample_and_the_whole_are_tried():
    model = Made(lambda m, x: x[0] + x[1])
    (call,) = calls_of(model, (torch.ones(20, 3), torch.ones(20, 3)))
    assert lengths(call) == [[8, 8], [1, 1], [20, 20]]


def test_what_has_no_common_length_is_not_cut():
    model = Made(lambda m, x: x[0] + x[1])
    (call,) = calls_of(model, (torch.ones(20, 3), torch.ones(1, 3)))
    assert lengths(call) == [[20, 1]]


def test_what_is_too_large_is_left_out():
    model = Made(lambda m, x: x)
    sample = MAX_BYTES // 4 // 4  # four samples, of four bytes a number
    (call,) = calls_of(model, torch.ones(20, sample))
    assert lengths(call) == [[1]]
    (call,) = calls_of(model, torch.ones(1, MAX_BYTES))
    assert (call.tries, call.refused) == ((), "its call is too large")


def test_a_few_samples_have_a_small_part_of_the_model():
    small, large = (Made(lambda m, x: x, net=nn.Linear(100, width)) for width in (10, 10_000))
    for model, found in ((small, [[1], [20]]), (large, [[8], [1], [20]])):
        (call,) = calls_of(model, torch.ones(20, 1000))
        assert lengths(call) == found


@dataclasses.dataclass
class Box:
    x: torch.Tensor


@pytest.mark.parametrize("given", [Box(torch.ones(1)), torch.eye(2).to_sparse(), {1, 2}])
def test_what_no_file_holds_is_a_reason(given):
    (call,) = calls_of(Made(lambda m, x: x), given)
    assert not call.tries
    assert call.refused.startswith("it is called with a ")


def test_a_copy_is_taken_and_not_what_a_model_writes_into_later():
    given = torch.ones(2, 2)
    (call,) = calls_of(Made(lambda m, x: x), given)
    given.zero_()
    assert bool(call.tries[-1][0].all())


def test_only_what_is_called_from_outside_is_taken():
    model = Made(lambda m, x: m.net(x), net=nn.Sequential(nn.Linear(2, 2)))
    assert [call.path for call in calls_of(model, torch.ones(1, 2))] == [""]


def test_a_parameter_that_is_given_is_a_tensor_and_not_watched_any_more():
    model = Made(lambda m, x: x, prompt=nn.Linear(2, 2))
    with torch.no_grad(), recorded(model) as calls:
        model(model.prompt.weight)
    read = set(calls[id(model.prompt)].read) if id(model.prompt) in calls else set()
    (call,) = first_calls(model, calls)
    assert type(call.tries[-1][0]) is torch.Tensor
    assert (set(calls[id(model.prompt)].read) if id(model.prompt) in calls else set()) == read
