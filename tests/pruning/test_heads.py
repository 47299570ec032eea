"""Heads and neurons that go together in several parameters."""

from __future__ import annotations

import pytest
import torch
from pruning_scenes import pruners
from torch import nn

from lpot_lightning.errors import ConfError, PruningError
from lpot_lightning.pruning.model_pruner import ModelPruner
from lpot_lightning.pruning.weights import PLACE

HEADS, SIZE = 4, 2


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        width = HEADS * SIZE
        self.value, self.output = nn.Linear(width, width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 12), nn.Linear(12, width)

    def forward(self, x, head_mask):
        heads = self.value(x).unflatten(-1, (HEADS, SIZE)) * head_mask[:, None]
        x = x + self.output(heads.flatten(-2))
        return x + self.down(self.up(x).relu())


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ModuleList([Layer(), Layer()])

    def forward(self, x, head_mask=None):
        for number, layer in enumerate(self.layer):
            x = layer(x, head_mask=head_mask[number])
        return x


def encoder():
    torch.manual_seed(0)
    return Encoder()


def by_mask(**parameters):
    return {
        "prune_type": "gradient_sensitivity",
        "names": ["layer.*.value.weight", "layer.*.value.bias"],
        "parameters": {
            "stride": SIZE,
            "importance_inputs": ["head_mask"],
            "importance_metric": "abs_gradient",
            **parameters,
        },
    }


def by_weights(names, transpose=False, **parameters):
    inputs = ["layer.*.up.weight", "layer.*.up.bias"]
    return {
        "prune_type": "gradient_sensitivity",
        "names": names,
        "parameters": {"importance_inputs": inputs, "transpose": transpose, **parameters},
    }


def run(model, *asked, mask=None, epochs=2, **shared):
    pruner = ModelPruner(model, pruners(*asked, **{"start_epoch": 1, "end_epoch": 1, **shared}))
    mask = torch.ones(2, HEADS, requires_grad=True) if mask is None else mask
    sums = {"mask": 0.0, "rows": 0.0}
    for epoch in range(epochs):
        pruner.begin_epoch(epoch)
        if epoch + 1 < epochs:
            model.zero_grad()
            model(torch.randn(5, HEADS * SIZE), head_mask=mask).square().sum().backward()
            pruner.observe()
            if mask.requires_grad:
                sums["mask"] += mask.grad.abs()
            up = model.layer[0].up
            rows = (up.weight * up.weight.grad).sum(1) + up.bias * up.bias.grad
            sums["rows"] += rows.abs().detach()
    pruner.close()
    return pruner, sums


def gone(weight, stride=1, dim=0):
    rows = (weight.movedim(dim, 0) == 0).flatten(1).all(1)
    return [n // stride for n in rows.nonzero().flatten().tolist()[::stride]]


def test_the_heads_whose_mask_matters_least_go():
    model = encoder()
    _, sums = run(model, by_mask(target=1))
    for number, layer in enumerate(model.layer):
        least = sums["mask"][number].argsort()[:3].sort().values.tolist()
        assert gone(layer.value.weight, SIZE) == least
        assert gone(layer.value.bias[:, None], SIZE) == least


def test_neurons_go_by_the_weighted_gradient_in_rows_and_in_columns():
    model = encoder()
    rows, columns = ["layer.*.up.weight"], ["layer.*.down.weight"]
    _, sums = run(model, by_weights(rows, target=5), by_weights(columns, True, target=5))
    least = sums["rows"].argsort()[:7].sort().values.tolist()
    assert gone(model.layer[0].up.weight) == least
    assert gone(model.layer[0].down.weight, dim=1) == least


def test_without_target_the_share_of_groups_is_the_target():
    model = encoder()
    pruner, _ = run(model, by_mask(), target_sparsity=0.5)
    assert [layer.sparsity for layer in pruner.layers()] == [0.5] * 4
    assert [layer.target for layer in pruner.layers()] == [0.5] * 4
    assert pruner.layers()[0].pattern == "rows x 2"


def test_groups_go_step_by_step():
    model = encoder()
    pruner, _ = run(model, by_mask(target=1), epochs=2, start_epoch=0, end_epoch=3)
    assert [layer.sparsity for layer in pruner.layers()] == [0.25] * 4


def test_ranked_over_layers_each_is_measured_by_its_own_norm():
    model = encoder()
    with torch.no_grad():
        model.layer[0].output.weight *= 1e-3  # its mask has gradients that are as much smaller
    run(model, by_mask(target=2) | {"prune_domain": "global"})
    assert [len(gone(one.value.weight, SIZE)) for one in model.layer] == [4, 0]
    model = encoder()
    with torch.no_grad():
        model.layer[0].output.weight *= 1e-3
    run(model, by_mask(target=2, normalize=True) | {"prune_domain": "global"})
    assert 0 < len(gone(model.layer[0].value.weight, SIZE)) < 4


def test_the_hooks_are_taken_out():
    model = encoder()
    run(model, by_mask(target=1))
    assert not any(one._forward_pre_hooks or one._forward_hooks for one in model.modules())


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            by_mask(stride=3),
            "parameters.stride` is `3`, which does not divide dimension 0 of"
            " `layer.0.value.weight`, [8, 8]",
        ),
        (
            by_mask(target=5),
            "parameters.target` is `5`, and there are 4 groups of 2; allowed: the number of groups"
            " to keep",
        ),
        (
            by_mask(importance_inputs=["attention"]),
            "parameters.importance_inputs` has `attention`, and no module's `forward` takes an"
            " argument of that name",
        ),
        (
            by_mask(importance_inputs=["x", "head_mask"]),
            "parameters.importance_inputs` has 2 names; allowed for `abs_gradient`: one, of an"
            " argument of `forward`",
        ),
        (
            by_weights(["layer.*.up.weight"], importance_inputs=["layer.*.value.weight"]),
            "parameters.importance_inputs` has `layer.*.value.weight`, and `layer.0.value.weight`"
            " has 8 rows; allowed: parameters of 12 rows",
        ),
        (
            by_weights(["layer.*.up.weight"], importance_inputs=["layer.*.x"]),
            "parameters.importance_inputs` has `layer.*.x`, and `layer.0.x` is no parameter;"
            " allowed: parameters of 12 rows",
        ),
        (
            by_weights(["layer.*.up.weight", "layer.*.value.weight"]),
            "` prunes the same groups of all its names, and `layer.0.up.weight` has 12,"
            " `layer.0.value.weight` has 8",
        ),
    ],
)
def test_groups_that_are_none_are_refused(asked, said):
    with pytest.raises(ConfError) as caught:
        run(encoder(), asked)
    assert str(caught.value) in (f"`{PLACE}[0].{said}", f"`{PLACE}[0]{said}")


def test_a_mask_without_gradients_is_told():
    with pytest.raises(PruningError) as caught:
        run(encoder(), by_mask(target=1), mask=torch.ones(2, HEADS))
    assert str(caught.value) == (
        f"`{PLACE}[0]` prunes by gradients, and none was seen: give the argument in `training_step`"
        " as a tensor with `requires_grad=True`"
    )


def test_a_mask_of_another_shape_is_told():
    with pytest.raises(PruningError) as caught:
        run(encoder(), by_mask(target=1), mask=torch.ones(2, 1, requires_grad=True))
    assert "is of shape [2, 1]; for layer 0 it has to be of [layers, 4]" in str(caught.value)
