"""From a model to a smaller one, in one call each."""

import copy
from functools import cache

import torch
from channel_zoo import CASES

from lpot_lightning.pruning.channels.cut import cut
from lpot_lightning.pruning.channels.entering import entered
from lpot_lightning.pruning.channels.finding import find_groups
from lpot_lightning.pruning.channels.group import mask
from lpot_lightning.pruning.channels.plan import channel_plan_of


@cache
def found_in(name):
    """Return the groups of a case of the zoo; nobody changes them."""
    torch.manual_seed(0)
    return find_groups(CASES[name].make(), CASES[name].calls())


def trained(model):
    """Return the model in eval mode, with values as after a training: none is zero or one."""
    with torch.no_grad():
        for value in (*model.parameters(), *model.buffers()):
            if value.is_floating_point():
                value.mul_(0.9).add_(torch.rand_like(value) * 0.2 + 0.02)
    return model.eval()


def half(group):
    """Return a mask that keeps every second channel."""
    return torch.arange(group.n) % 2 == 0


def params_of(model):
    return dict(model.named_parameters(remove_duplicate=False))


def masked(model, groups, kept):
    second = copy.deepcopy(model)
    for group in groups:
        if group.name in kept:
            mask(params_of(second), group, kept[group.name])
    return second


def halved(model, groups):
    """Return the model with half of the channels masked, the small one and its plan."""
    kept = {group.name: half(group) for group in groups}
    wide = masked(model, groups, kept)
    plan = channel_plan_of(model, list(groups), kept)
    return wide, cut(copy.deepcopy(wide), plan), plan


def outputs(model, calls):
    with torch.no_grad():
        return [one for _, given in entered(model.eval(), calls) for one in given]


def distance(ones, others):
    """Return the largest error, relative to the largest number of the output."""
    pairs = list(zip(ones, others, strict=True))
    assert all(a.shape == b.shape for a, b in pairs)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def state_of(model):
    """Return all that must not change in a model that is looked at."""
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [(one.requires_grad, one.grad is None, id(one)) for one in model.parameters()]
    modules = [
        (module.training, dict(module._forward_hooks), dict(module._forward_pre_hooks))
        for module in model.modules()
    ]
    return tensors, flags, modules
