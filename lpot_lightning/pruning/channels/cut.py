"""Make a model small, by its plan alone."""

from __future__ import annotations

from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn

from lpot_lightning.errors import ArtifactError
from lpot_lightning.pruning.channels.plan import ChannelPlan, Kept, TensorPlan

Model = TypeVar("Model", bound=nn.Module)


def cut(model: Model, plan: ChannelPlan) -> Model:
    """Take out of ``model``, in place, what is not kept by ``plan``.

    Layers stay what and where they are; parameters become smaller ones of the same type, on the
    same device, and tied ones stay tied. Everything is checked before anything changes.

    Args:
        model: our own, dense, of the class that the plan was made for, with whatever weights.
        plan: from ``plan_of`` or from a file.

    Returns:
        ``model``.

    Raises:
        ArtifactError: naming the first tensor or layer that does not fit.

    Example::

        small = cut(LitDigits(), ChannelPlan.from_dict(yaml.safe_load(text)))
        small.load_state_dict(weights)
    """
    _check_tensors(model, plan)
    _check_sizes(model, plan)
    smaller: dict[int, Tensor] = {}
    before = []  # while they live no other tensor has the id of one
    for name, one in plan.tensors.items():
        held, last = _holder(model, name)
        tensor = held[last]
        before.append(tensor)
        if id(tensor) not in smaller:
            smaller[id(tensor)] = _smaller(tensor, one.kept)
            smaller[id(smaller[id(tensor)])] = smaller[id(tensor)]
        held[last] = smaller[id(tensor)]
    for path, sizes in plan.sizes.items():
        vars(model.get_submodule(path)).update(sizes)
    return model


def _smaller(tensor: Tensor, kept: tuple[Kept, ...]) -> Tensor:
    values = tensor.detach()
    for dim, indices in enumerate(kept):
        if indices is not None:
            chosen = torch.tensor(indices, device=values.device)
            values = values.index_select(dim, chosen)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(values.clone(), requires_grad=tensor.requires_grad)
    return values.clone()


def _holder(model: nn.Module, name: str) -> tuple[dict[str, Tensor], str]:
    """Return what holds the tensor, and its name there."""
    path, _, last = name.rpartition(".")
    module = model.get_submodule(path)
    held = module._parameters if module._parameters.get(last) is not None else module._buffers
    return held, last  # type: ignore[return-value]


def _check_tensors(model: nn.Module, plan: ChannelPlan) -> None:
    tensors = dict(
        chain(
            model.named_parameters(remove_duplicate=False),
            model.named_buffers(remove_duplicate=False),
        )
    )
    for name, one in plan.tensors.items():
        if name not in tensors:
            raise ArtifactError(f"`{name}` is cut by the plan, and the model has no such tensor")
        shape = tuple(tensors[name].shape)
        if shape != one.shape:
            raise ArtifactError(
                f"`{name}` has the shape {list(shape)}, and {list(one.shape)} in the plan"
            )
    _check_ties(tensors, plan)


def _check_ties(tensors: dict[str, Tensor], plan: ChannelPlan) -> None:
    told: dict[int, tuple[str, TensorPlan | None]] = {}
    for name, tensor in tensors.items():
        other, one = told.setdefault(id(tensor), (name, plan.tensors.get(name)))
        if one != plan.tensors.get(name):
            raise ArtifactError(
                f"`{name}` and `{other}` are one tensor, and cut in two ways by the plan"
            )


def _check_sizes(model: nn.Module, plan: ChannelPlan) -> None:
    modules = dict(model.named_modules(remove_duplicate=False))
    for path, sizes in plan.sizes.items():
        own = vars(modules[path]) if path in modules else {}
        for name, size in sizes.items():
            before = own.get(name)
            if not isinstance(before, int) or size > before:
                raise ArtifactError(
                    f"`{path}` has `{name}: {before}`, which the plan lowers to {size}"
                )
