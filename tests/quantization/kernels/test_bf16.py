"""Layers, and functions with a weight, in bfloat16: what they give, and their files."""

from __future__ import annotations

import copy

import int8_scenes
import pytest
import torch
from bf16_scenes import all_bf16, images, patches
from int8_scenes import Batch, calibrated, converted
from program_scenes import ops
from torch import nn

from lpot_lightning.module.stand_in import computing, replaced
from lpot_lightning.quantization.capability import BF16
from lpot_lightning.quantization.kernels.bounds import WHOLE
from lpot_lightning.quantization.program.program import programs_of
from lpot_lightning.quantization.rungs import Bf16Layer, on_rung

LAYERS = {
    "linear": (nn.Linear(6, 4), (2, 3, 6)),
    "no bias": (nn.Linear(6, 4, bias=False), (3, 6)),
    "one dimension": (nn.Conv1d(6, 4, 3, padding="same"), (2, 6, 9)),
    "reflected": (nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"), (2, 6, 5, 5)),
    "3d": (nn.Conv3d(6, 4, 2, groups=2), (2, 6, 3, 4, 5)),
}
CAST = "to"


def shown(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_it_gives_what_torchs_layer_gives_in_bfloat16(name):
    layer, shape = LAYERS[name]
    x, made = shown(*shape), on_rung(layer, BF16, bounds=WHOLE)
    wanted = copy.deepcopy(layer).bfloat16()(x.bfloat16())
    assert torch.equal(made(x), wanted.float())
    assert torch.equal(made(x.bfloat16()), wanted)
    assert made(x.double()).dtype is torch.float64


def test_its_tensors_have_16_bits_and_are_its_own():
    layer = nn.Linear(6, 4)
    made = on_rung(layer, BF16, bounds=WHOLE)
    assert {one.dtype for one in made.state_dict().values()} == {torch.bfloat16}
    nn.init.zeros_(layer.weight)
    assert not made.kernel.stands_for(layer.weight)
    assert made.kernel.stands_for(made.kernel.weight.float())


@pytest.mark.parametrize("joined", [True, False])
@torch.no_grad()
def test_files_of_half_the_size_give_the_same_bits(tmp_path, joined):
    model = patches()
    found = calibrated(model, Batch(images()), Batch(images(seed=1)))
    int8 = int8_scenes.save(tmp_path, model, found, all_bf16(found))
    loaded = int8_scenes.load(tmp_path, int8_scenes.other_weights(model))
    if not joined:
        int8 = converted(model, found, all_bf16(found))
    for x in (images(3, seed=2), images(5, seed=3)):
        wanted = int8(x)
        assert torch.equal(loaded(x), wanted)
        assert 0 < float((wanted - model(x)).norm() / model(x).norm()) < 0.02
    plain = int8_scenes.BACKEND.to_plain(loaded)
    floats = {name for name, one in plain.items() if one.dtype is torch.float32 and one.numel()}
    assert floats == {"norm.weight", "norm.bias", "mixing.lpot_int8.linear_0.sketch"}
    assert torch.equal(loaded.mixing.weight, model.mixing.weight.bfloat16().float())


@torch.no_grad()
def test_neighbours_do_not_cast_back_and_forth():
    class Chain(nn.Sequential):
        pass

    model = Chain(nn.Linear(8, 8), nn.ReLU(), nn.Unflatten(1, (2, 4)), nn.Linear(4, 4)).eval()
    found = calibrated(model, Batch(shown(6, 8)))
    made = converted(model, found, all_bf16(found))
    wanted = made(shown(6, 8))
    int8_scenes.BACKEND.join(made, found.describe(all_bf16(found)))
    assert torch.equal(made(shown(6, 8)), wanted)
    steps = ops(programs_of(made)[""][0])
    assert steps.count(Bf16Layer) == 2
    assert steps.count(CAST) == 2
    assert (steps[0], steps[-1]) == (CAST, CAST)


@torch.no_grad()
def test_another_choice_is_computed_from_the_next_call_on():
    model = patches()
    found = calibrated(model, Batch(images()))
    every = all_bf16(found)
    recipes = every, every.with_fp32(["first", "mixing#linear_0"]), every
    given = []
    for recipe in recipes:
        with replaced(model, found.convert(recipe)), computing(model, found.graphs(model)):
            given.append(model(images()))
    assert torch.equal(given[0], given[2])
    assert not torch.equal(given[0], given[1])
