"""Which channels of a group matter least."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lpot_lightning.pruning.channels.group import Group


def group_magnitude(params: Mapping[str, Tensor], group: Group) -> Tensor:
    """Return how large the weights of each channel are, over all layers of the group.

    The importance of a group of DepGraph (Fang et al., CVPR 2023): for each tensor the L2 norm of
    the channel's entries, relative to its mean over the channels; the mean of that over the
    tensors. Biases do not count, and the weights that read the channel do.

    Args:
        params: the parameters of the model by name, ``remove_duplicate=False``.
        group: whose channels.

    Returns:
        ``[n]``, on the device of the parameters; ``1`` is an average channel.

    Example::

        kept = torch.zeros(group.n, dtype=torch.bool)
        kept[group_magnitude(params, group).topk(group.n // 2).indices] = True
    """
    weights = [part for part in (*group.zeroed, *group.read) if not _is_bias(part.name)]
    norms = [part.of(params[part.name].detach()).float().norm(dim=1) for part in weights]
    relative = [norm / norm.mean().clamp_min(torch.finfo(norm.dtype).tiny) for norm in norms]
    return torch.stack(relative).mean(0)


def group_taylor(params: Mapping[str, Tensor], grads: Mapping[str, Tensor], group: Group) -> Tensor:
    """Return by how much the loss would change, to first order, were each channel zero.

    ``|sum of weight * gradient|`` over all that is zero when the channel is (Molchanov et al.,
    CVPR 2019).

    Args:
        params: the parameters of the model by name, ``remove_duplicate=False``.
        grads: their gradients; a parameter without one counts as without influence.
        group: whose channels.

    Returns:
        ``[n]``, on the device of the parameters.

    Example::

        model.training_step(batch).backward()
        grads = {name: one.grad for name, one in params.items() if one.grad is not None}
        scores = group_taylor(params, grads, group)
    """
    known = [part for part in group.zeroed if part.name in grads]
    if not known:
        return torch.zeros(group.n, device=params[group.zeroed[0].name].device)
    moved = [
        (part.of(params[part.name].detach()) * part.of(grads[part.name])).float().sum(1)
        for part in known
    ]
    return torch.stack(moved).sum(0).abs()


def _is_bias(name: str) -> bool:
    return name.rpartition(".")[2] == "bias"
