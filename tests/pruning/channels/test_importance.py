"""How much each channel of a group matters."""

import torch
from channel_scenes import found_in, params_of
from channel_zoo import CASES, Made
from torch import nn

from lpot_lightning.pruning.channels.finding import find_groups
from lpot_lightning.pruning.channels.group import mask
from lpot_lightning.pruning.channels.importance import group_magnitude, group_taylor


def two_layers():
    """Channels of size 1, 2, 3 and 4, in what gives them and in what reads them."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    sizes = torch.arange(1.0, 5.0)
    with torch.no_grad():
        model[0].weight.copy_(sizes[:, None].expand(4, 3))
        model[1].weight.copy_(sizes.flip(0).expand(2, 4))
        model[0].bias.copy_(torch.tensor([100.0, 0, 0, 0]))
    (group,) = find_groups(model, {"": ((torch.ones(2, 3),), {})}).groups
    return model, group


def test_magnitude_is_relative_to_the_mean_of_each_layer():
    model, group = two_layers()
    assert torch.allclose(group_magnitude(params_of(model), group), torch.ones(4))
    with torch.no_grad():
        model[1].weight.fill_(7)
    expected = (torch.arange(1.0, 5.0) / 2.5 + 1) / 2
    assert torch.allclose(group_magnitude(params_of(model), group), expected)


def test_the_weights_of_a_batch_norm_count_and_biases_do_not():
    model, group = CASES["plain"].make(), found_in("plain")["0"]
    before = group_magnitude(params_of(model), group)
    with torch.no_grad():
        model[1].bias[3] = 50
    assert torch.equal(group_magnitude(params_of(model), group), before)
    with torch.no_grad():
        model[1].weight[3] = 50
    assert group_magnitude(params_of(model), group).argmax() == 3


def test_the_columns_of_a_flattened_channel_count_together():
    model, group = CASES["plain"].make(), found_in("plain")["3"]
    with torch.no_grad():
        model[6].weight[:, 18:27] *= 100
    assert group_magnitude(params_of(model), group).argmax() == 2


def test_masked_channels_are_the_least():
    model, group = CASES["resnet"].make(), found_in("resnet")["0.0"]
    kept = torch.arange(group.n) != 5
    mask(params_of(model), group, kept)
    scores = group_magnitude(params_of(model), group)
    assert scores.argmin() == 5
    for part in group.zeroed:
        assert not part.of(params_of(model)[part.name])[5].any()


def test_a_layer_of_zeros_says_nothing():
    model, group = two_layers()
    with torch.no_grad():
        model[1].weight.zero_()
    scores = group_magnitude(params_of(model), group)
    assert torch.isfinite(scores).all()
    assert scores.argsort().tolist() == [0, 1, 2, 3]


def test_taylor_is_the_sum_of_weight_times_gradient():
    model, group = two_layers()
    grads = {name: torch.ones_like(one) for name, one in params_of(model).items()}
    expected = torch.tensor([103.0, 6, 9, 12])
    assert torch.equal(group_taylor(params_of(model), grads, group), expected)
    grads["0.weight"] *= -1
    grads["0.bias"] *= 0
    assert torch.equal(
        group_taylor(params_of(model), grads, group), expected - torch.eye(4)[0] * 100
    )


def test_taylor_finds_the_channel_that_the_loss_does_not_need():
    model = Made(lambda m, x: m.head(m.fc(x).relu()), fc=nn.Linear(6, 8), head=nn.Linear(8, 2))
    (group,) = find_groups(model, {"": ((torch.randn(4, 6),), {})}).groups
    with torch.no_grad():
        model.head.weight[:, 3] = 0
    model(torch.randn(64, 6)).square().mean().backward()
    grads = {name: one.grad for name, one in params_of(model).items()}
    assert group_taylor(params_of(model), grads, group)[3] == 0


def test_without_gradients_nothing_matters():
    model, group = two_layers()
    assert not group_taylor(params_of(model), {}, group).any()
