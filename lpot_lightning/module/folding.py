"""Weights that are computed from others, as plain weights."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

_HOOKS = (prune.BasePruningMethod, SpectralNorm, WeightNorm)


def fold_weights(model: nn.Module) -> None:
    """Give the layers of ``model`` the weights that parametrizations, masks and norms come to.

    In eval mode these do not change from call to call, and int8 holds the result.

    Args:
        model: a copy; it is changed, and the classes that it shares with others are not.
    """
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            _fold_parametrizations(module)
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, prune.BasePruningMethod):
                prune.remove(module, hook._tensor_name)  # type: ignore[no-untyped-call]
            elif isinstance(hook, WeightNorm):
                remove_weight_norm(module, hook.name)
            elif isinstance(hook, SpectralNorm):
                remove_spectral_norm(module, hook.name)


def other_hooks(module: nn.Module) -> dict[int, object]:
    """Return the hooks before ``module``'s forward that do not compute a weight."""
    hooks = module._forward_pre_hooks
    return {key: hook for key, hook in hooks.items() if not isinstance(hook, _HOOKS)}


def _fold_parametrizations(module: nn.Module) -> None:
    """Do what torch's ``remove_parametrizations`` does, which takes them off the class.

    All copies of a module have one class there (torch 2.13).
    """
    with torch.no_grad():
        values = {name: getattr(module, name) for name in module.parametrizations}  # type: ignore[union-attr]
    module.__class__ = type(module).__bases__[0]
    del module.parametrizations
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value.detach().clone(), requires_grad=False))
