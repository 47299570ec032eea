"""One scale for channels of very different size."""

from __future__ import annotations

import pytest
import torch
from layer_scenes import calibrated, converted, error, error_with, recipe_of, shown
from torch import nn
from transformers.pytorch_utils import Conv1D

from lpot_lightning.module.stand_in import put
from lpot_lightning.quantization.corrections import EQUALIZATION
from lpot_lightning.quantization.equalization import by_groups, factors_of
from lpot_lightning.quantization.onednn import OnednnBackend
from lpot_lightning.quantization.quantized_layer import weight_of

LAYERS = {
    "Linear": (lambda: nn.Linear(8, 4), (32, 8)),
    "Linear of tokens": (lambda: nn.Linear(8, 4, bias=False), (4, 9, 8)),
    "Conv1D": (lambda: Conv1D(4, 8), (4, 9, 8)),
    "Conv1d": (lambda: nn.Conv1d(8, 4, 3, padding=1), (4, 8, 9)),
    "Conv2d": (lambda: nn.Conv2d(8, 4, 3, padding=1), (4, 8, 6, 6)),
    "one sample": (lambda: nn.Conv2d(8, 4, 3), (8, 6, 6)),
    "Conv3d": (lambda: nn.Conv3d(8, 4, 2), (2, 8, 3, 4, 5)),
    "groups": (lambda: nn.Conv2d(8, 4, 3, groups=2), (4, 8, 6, 6)),
    "depthwise": (lambda: nn.Conv2d(8, 8, 3, groups=8), (4, 8, 6, 6)),
    "two for each": (lambda: nn.Conv2d(8, 16, 3, groups=8), (4, 8, 6, 6)),
    "around": (lambda: nn.Conv2d(8, 4, 3, padding=1, padding_mode="circular"), (4, 8, 6, 6)),
}
SCALE = 10 ** torch.linspace(-2, 2, 8)


class Uneven(nn.Module):
    """Rescales channels before a layer, and back in its weights, in the middle of Python."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.spatial = layer, layer.weight.dim() - 2
        grouped = by_groups(layer, weight_of(layer))
        with torch.no_grad():
            grouped.div_(SCALE.view(len(grouped), 1, -1, 1))

    def forward(self, x):
        x = x * SCALE.view(-1, *[1] * self.spatial)
        return self.layer(x) if bool(x.sum() < 1e9) else x


def uneven(name: str) -> tuple[nn.Module, list[torch.Tensor]]:
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    return Uneven(make()).eval(), [shown(*shape, seed=n) for n in range(3)]


@pytest.mark.parametrize("name", LAYERS)
def test_channels_that_differ_by_orders_are_held_as_well_as_others(name):
    model, batches = uneven(name)
    prepared = calibrated(model, *batches)
    assert EQUALIZATION in prepared.ops[0].corrections
    assert not prepared.exact
    plain = error_with(model, prepared, batches[1])
    equalized = error_with(model, prepared, batches[1], EQUALIZATION)
    assert plain > 5 * equalized
    assert equalized < 0.02


@pytest.mark.parametrize("algorithm", ["minmax", "kl", "percentile"])
def test_ranges_of_any_kind_suit_the_equalized_input(algorithm):
    model, batches = uneven("Conv2d")
    prepared = calibrated(model, *batches)
    recipe = recipe_of(prepared, EQUALIZATION, algorithm=algorithm)
    assert error(converted(model, prepared, recipe), model, batches[1]) < 0.03
    form = prepared.convert(recipe)["layer"].graph
    grid, seen = form.kernel.x, torch.stack(batches) * SCALE.view(-1, 1, 1) / form.factors
    ends = float(seen.min()), float(seen.max())
    reach = grid.scale * (grid.low - grid.zero_point), grid.scale * (grid.high - grid.zero_point)
    held = [found / wanted for found, wanted in zip(reach, ends, strict=True)]
    assert held == pytest.approx([1, 1], abs=0.02 if algorithm == "minmax" else 0.5)


@pytest.mark.parametrize("name", ["Linear", "Conv1D", "groups"])
def test_files_give_the_factors_back(name):
    model, batches = uneven(name)
    prepared, backend = calibrated(model, *batches), OnednnBackend()
    recipe = recipe_of(prepared, EQUALIZATION)
    int8, described = converted(model, prepared, recipe), prepared.describe(recipe)
    plain = {key: value.clone() for key, value in backend.to_plain(int8).items()}
    other, _ = uneven(name)
    put(other, backend.rebuild(other, described))
    backend.fill(other, plain, described["engine"])
    with torch.no_grad():
        assert torch.equal(other(batches[1]), int8(batches[1]))


def test_several_processes_come_to_the_same():
    model, batches = uneven("groups")
    whole = calibrated(model, *batches)
    one, two = (calibrated(model, *part, settled=False) for part in (batches[:1], batches[1:]))
    one.merge([one.statistics(), two.statistics()])
    one.settle()
    recipe = recipe_of(whole, EQUALIZATION)
    assert one.describe(recipe) == whole.describe(recipe)
    found, wanted = (each.convert(recipe)["layer"].graph.factors for each in (one, whole))
    assert torch.equal(found, wanted)


def test_what_a_process_finds_is_found_by_all():
    model, batches = uneven("Linear")
    first, other = (calibrated(model, *part, settled=False) for part in (batches[:1], batches[1:]))
    verdicts = []
    first.settle(lambda verdict: verdicts.append(verdict) or verdict)
    other.settle(lambda _: verdicts[0])
    recipe = recipe_of(first, EQUALIZATION, algorithm="kl")
    assert other.describe(recipe) == first.describe(recipe)


def test_sizes_and_weights_are_balanced():
    torch.manual_seed(0)
    sizes = 10 ** torch.linspace(-3, 3, 16)
    weight = torch.randn(1, 8, 16, 1) / sizes.view(1, 1, -1, 1)
    factors = factors_of(weight, sizes)
    assert torch.equal(factors, factors.log2().round().exp2())
    held = (sizes / factors).log2()
    assert float(held.max() - held.min()) < 3  # of the 20 that there were
    balanced = (weight * factors.view(1, 1, -1, 1)).abs().amax((0, 1, 3)).log2()
    assert float(balanced.max() - balanced.min()) < 4


def test_a_weight_that_has_one_input_takes_all_of_it():
    sizes = torch.tensor([8.0, 1.0, 0.125])
    assert factors_of(torch.randn(3, 1, 1, 9) + 5, sizes).tolist() == [8.0, 1.0, 0.125]


def test_a_channel_that_is_zero_is_left_alone():
    factors = factors_of(torch.ones(1, 2, 3, 1), torch.tensor([0.0, 4.0, 0.25]))
    assert factors.tolist() == [1.0, 2.0, 0.5]
    assert factors_of(torch.ones(1, 2, 2, 1), torch.zeros(2)).tolist() == [1.0, 1.0]


def test_a_channel_that_nobody_reads_does_not_widen_the_range():
    weight = torch.ones(1, 2, 3, 1)
    weight[:, :, 0] = 0
    sizes = torch.tensor([1e6, 2.0, 0.5])
    held = sizes / factors_of(weight, sizes)
    assert float(held[0]) < 2 * float(held[1:].max())


def test_factors_are_bounded():
    sizes = torch.tensor([1e-30, 1.0, 1e30])
    factors = factors_of(torch.ones(1, 2, 3, 1), sizes)
    assert bool(factors.isfinite().all())
    assert float(factors.max() / factors.min()) <= 2**40


def test_channels_that_are_alike_need_none():
    model = nn.Sequential(nn.Linear(1, 4)).eval()
    prepared = calibrated(model, shown(9, 1))
    assert EQUALIZATION not in prepared.ops[0].corrections
