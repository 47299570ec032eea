"""Weights of which files hold the rounded form alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.module.stand_in import HELD
from lpot_lightning.quantization.functions.forward import OwnerForward, owner_of
from lpot_lightning.quantization.kernels.arithmetic import Int8Weight

_PLAIN = ("torch", "torchmetrics", "lpot_lightning")
"""Whose code leaves tensors of others as they are when it loads its own."""

OwnerForwards = Mapping[str, OwnerForward]
"""What computes the functions of modules, each by the path of its module as names begin with it."""


def owners_in(modules: Mapping[str, nn.Module]) -> OwnerForwards:
    """Return what computes functions that may be int8, of all modules by their paths."""
    found = {path: owner_of(one) for path, one in modules.items()}
    return {f"{path}." if path else "": one for path, one in found.items() if one is not None}


def stored_weights(owners: OwnerForwards) -> Iterator[str]:
    """Yield the names of weights that no call needs but as they were rounded.

    The modules keep them: a call of another kind computes with them in floats. In a model that was
    loaded they have the values that the int8 form stands for.
    """
    for name, _ in _stored(owners):
        yield name


def restored(
    model: nn.Module, owners: OwnerForwards, plain: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the weights that ``plain``, the state of a file, holds the int8 form of alone.

    They are where they are to be, if ``model`` has a place of their type for them: for a
    transformer of 25 million weights anything else is 100 MB of memory that is written once more.
    """
    found = {}
    for name, kernel in _stored(owners):
        values, scales = plain.get(f"{kernel}.weight"), plain.get(f"{kernel}.scales")
        if name in plain or values is None:
            continue
        size = getattr(model.get_submodule(kernel), "group_size", None)
        steps = None if scales is None else Int8Weight(values, scales, group_size=size).steps
        place = model.get_parameter(name).detach()
        fits = place.dtype == torch.float32 and place.shape == values.shape
        found[name] = _dequantized(values, steps, place if fits else torch.empty(values.shape))
    return found


def _dequantized(values: Tensor, steps: Tensor | None, place: Tensor) -> Tensor:
    """Write what ``values`` stand for to ``place``; those of bfloat16 have no steps."""
    place.copy_(values)
    return place if steps is None else place.mul_(steps)


def know_restored(model: nn.Module, owners: OwnerForwards, names: Collection[str]) -> None:
    """Let int8 forms know the weights that ``restored`` gave, which have been loaded since.

    They would look at each number in the first call. Where somebody's code had a part in loading
    them, they do.
    """
    if not names or not all(map(_loads_plainly, model.modules())):
        return
    for path, forward in owners.items():
        for op, name in forward.stored().items():
            if f"{path}{name}" in names:
                forward.forms()[op].know(forward.owner.get_parameter(name))


def _loads_plainly(module: nn.Module) -> bool:
    held = module._load_state_dict_pre_hooks, module._load_state_dict_post_hooks
    hooks = [getattr(hook, "hook", hook) for one in held for hook in one.values()]  # torch's wraps
    return all(_package(one) in _PLAIN for one in (type(module)._load_from_state_dict, *hooks))


def _package(code: Any) -> str:
    return str(getattr(code, "__module__", "")).partition(".")[0]


def _stored(owners: OwnerForwards) -> Iterator[tuple[str, str]]:
    """Yield the name of each weight, and that of its kernel."""
    for path, forward in owners.items():
        for op, name in forward.stored().items():
            yield f"{path}{name}", f"{path}{HELD}.{op}.layer.kernel"
