"""Attention and products of activations in bfloat16, where that is switched on."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from bf16_scenes import Heads, images, patches
from int8_scenes import BACKEND, Batch, all_int8, calibrated, load, save
from program_scenes import in_int8, ops
from torch import nn

from lpot_lightning.module.stand_in import computing, replaced
from lpot_lightning.quantization.graph.capture import Captured
from lpot_lightning.quantization.op_clock import OFTEN
from lpot_lightning.quantization.program.narrow import Narrow, NarrowMask
from lpot_lightning.quantization.program.program import Program, programs_of

CAST, LEAST = "to", torch.finfo(torch.float32).min


def shown(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def switched(model: nn.Module) -> tuple[nn.Module, Narrow]:
    """Return a copy in int8 that graphs compute, and its switch."""
    made, switch = in_int8(model.eval()), Narrow()
    vars(made)["forward"] = Captured(made, partial(Program, narrow=switch))
    return made, switch


def program(model: nn.Module) -> Program:
    return programs_of(model)[""][0]


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize(("by_function", "casts"), [(True, 4), (False, 6)])
@torch.no_grad()
def test_attention_is_computed_in_bf16_while_it_is_switched_on(by_function, casts):
    net, switch = switched(Heads(by_function=by_function))
    x = shown(3, 5, 16)
    plain = net(x)
    assert ops(program(net)).count(CAST) == 0
    switch.on = True
    found = [net(x) for _ in range(OFTEN + 3)]
    assert ops(program(net)).count(CAST) == casts
    assert all(torch.equal(one, found[0]) for one in found)
    assert 0 < apart(found[0], plain) < 0.02
    switch.on = False
    assert torch.equal(net(x), plain)


@pytest.mark.parametrize("hidden", [-float("inf"), LEAST, False])
@torch.no_grad()
def test_masks_hide_what_they_hid(hidden):
    net, switch = switched(Heads())
    x, shows = shown(2, 5, 16), torch.ones(2, 1, 1, 5, dtype=torch.bool)
    shows[1, ..., 3:] = False
    mask = shows if hidden is False else torch.zeros(shows.shape).masked_fill(~shows, hidden)
    plain = net(x, mask)
    switch.on = True
    assert apart(net(x, mask), plain) < 0.02


def test_a_row_of_least_numbers_stays_finite():
    mask = torch.tensor([LEAST, -float("inf"), 0.5])
    assert NarrowMask()(mask).isfinite().tolist() == [True, False, True]


class Weighted(nn.Module):
    """Products that are none of activations alone, and one whose memory is written to."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.layer = nn.Parameter(torch.randn(8, 8) / 3), nn.Linear(8, 8)

    def forward(self, x):
        x = self.layer(x)
        y = x @ (self.weight * 2).t()
        scores = torch.bmm(y, x.transpose(1, 2))
        kept = scores[:, :1]
        scores += 1
        return F.relu(scores) + kept


@torch.no_grad()
def test_a_weight_is_not_cast_in_each_call_and_writes_are_seen():
    net, switch = switched(Weighted())
    plain = net(shown(2, 4, 8))
    switch.on = True
    assert apart(net(shown(2, 4, 8)), plain) < 0.02
    assert ops(program(net)).count(CAST) == 3


@torch.no_grad()
def test_it_is_in_the_files_and_restored_to_the_bit(tmp_path):
    model, x = patches(), images(64, seed=2)  # of a few the head's integers may be the same
    found = calibrated(model, Batch(images()))
    fp32 = save(tmp_path, model, found)(x)
    found.narrow = True
    int8 = save(tmp_path, model, found)
    loaded = load(tmp_path, model)
    assert torch.equal(loaded(x), int8(x))
    assert not torch.equal(loaded(x), fp32)
    assert CAST in ops(program(loaded))
    assert torch.equal(copy.deepcopy(loaded)(x), loaded(x))


@torch.no_grad()
def test_a_model_that_is_all_fp32_stays_so():
    model, x = patches(), images(3, seed=2)
    found = calibrated(model, Batch(images()))
    wanted, found.narrow = model(x), True
    recipe = all_int8(found)
    assert found.describe(recipe)["float"] == "bf16"
    assert found.describe(recipe.with_fp32(recipe.int8_ops))["float"] == "fp32"
    parts = found.convert(recipe.with_fp32(recipe.int8_ops))
    with replaced(model, parts), computing(model, found.graphs(model)) as fp32:
        assert apart(fp32(x), wanted) < 1e-6


@torch.no_grad()
def test_files_of_earlier_versions_say_nothing_of_it():
    model = patches()
    found = calibrated(model, Batch(images()))
    described = found.describe(all_int8(found))
    del described["float"]
    with replaced(model, found.convert(all_int8(found))):
        BACKEND.join(model, described)
        model(images())
        assert CAST not in ops(program(model))
