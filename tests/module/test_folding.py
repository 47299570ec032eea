"""Weights that are computed from others."""

import pytest
import torch
from int8_scenes import state_of
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm
from zoo import seeded

from lpot_lightning.module.copying import copy_of
from lpot_lightning.module.folding import fold_weights, other_hooks


@pytest.mark.parametrize(
    "compute",
    [
        parametrizations.weight_norm,
        parametrizations.orthogonal,
        spectral_norm,
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    ],
)
def test_a_folded_copy_computes_the_same_and_the_original_is_as_it_was(compute):
    layer = seeded(lambda: nn.Linear(4, 4))
    compute(layer)
    x = torch.ones(1, 4)
    expected, before = layer.eval()(x).detach(), state_of(layer)
    folded = copy_of(copy_of(layer))
    fold_weights(folded)
    assert type(folded) is nn.Linear
    assert sorted(folded.state_dict()) == ["bias", "weight"]
    assert torch.allclose(folded(x), expected, atol=1e-6)
    assert state_of(layer) == before
    assert torch.equal(layer(x), expected)


def test_other_hooks_are_told_from_those_that_compute_a_weight():
    layer = nn.Linear(4, 4)
    prune.identity(layer, "weight")
    layer.register_forward_pre_hook(lambda *_: None)
    assert len(layer._forward_pre_hooks) == 2
    assert len(other_hooks(layer)) == 1
