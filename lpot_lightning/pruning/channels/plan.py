"""What is left of each tensor: the plan of a smaller model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.errors import PruningError, did_you_mean
from lpot_lightning.pruning.channels.group import Group
from lpot_lightning.pruning.channels.plan_reader import read_plan

Kept = tuple[int, ...] | None
"""The indices along a dimension that stay; ``None``: all."""


@dataclass(frozen=True)
class TensorPlan:
    """What stays of a tensor.

    Args:
        shape: before the cut.
        kept: for each dimension.
    """

    shape: tuple[int, ...]
    kept: tuple[Kept, ...]


@dataclass(frozen=True)
class ChannelPlan:
    """How a model gets smaller, in plain values.

    Args:
        tensors: the parameters and buffers that get smaller, by name.
        sizes: the attributes of layers that change, and what they become, by the layer's path.

    Example::

        plan = channel_plan_of(model, found.groups, {"net.stem": scores > threshold})
        small = cut(copy.deepcopy(model), plan)
    """

    tensors: Mapping[str, TensorPlan] = field(default_factory=dict)
    sizes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan in ints, strings, lists and dicts; equal lists of indices are one."""
        lists: dict[tuple[int, ...], int] = {}

        def number(kept: Kept) -> int | None:
            return None if kept is None else lists.setdefault(kept, len(lists))

        tensors = {
            name: {"shape": list(one.shape), "kept": [number(kept) for kept in one.kept]}
            for name, one in self.tensors.items()
        }
        sizes = {path: dict(one) for path, one in self.sizes.items()}
        return {"kept": [list(one) for one in lists], "tensors": tensors, "sizes": sizes}

    @classmethod
    def from_dict(cls, plain: object) -> ChannelPlan:
        """Return the plan that ``to_dict`` gave ``plain``.

        Args:
            plain: may come from a file of anybody.

        Raises:
            ArtifactError: naming the first thing that cannot be.
        """
        tensors, sizes = read_plan(plain)
        plans = {name: TensorPlan(shape, kept) for name, (shape, kept) in tensors.items()}
        return cls(plans, sizes)


def channel_plan_of(
    model: nn.Module, groups: Sequence[Group], kept: Mapping[str, Tensor]
) -> ChannelPlan:
    """Return the plan that cuts the channels which are not ``kept`` out of ``model``.

    Args:
        model: of the class and size in which the groups were found; it is left as it is.
        groups: as ``find_groups`` gives them.
        kept: ``[n]``, bool, by the name of the group; of groups that are not named all stay.

    Raises:
        PruningError: if a name is unknown, a mask does not fit, nothing of a group would stay, or
            tensors that are tied would get different shapes.

    Example::

        plan = channel_plan_of(model, found.groups, {"net.stem": torch.arange(4) % 2 == 0})
    """
    _check_kept(groups, kept)
    removed: dict[str, dict[int, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
    lowered: dict[tuple[str, str], int] = defaultdict(int)
    for group in groups:
        gone = ~kept[group.name].cpu() if group.name in kept else torch.zeros(0, dtype=torch.bool)
        if not gone.any():
            continue
        for part in group.cut:
            removed[part.name][part.dim].append(part.index[gone].flatten())
        for path, size, each in group.sizes:
            lowered[path, size] += each * int(gone.sum())
    tensors = _tensor_plans(model, removed)
    return ChannelPlan(tensors, _sizes(model, lowered))


def _check_kept(groups: Sequence[Group], kept: Mapping[str, Tensor]) -> None:
    known = {group.name: group.n for group in groups}
    for name, mask in kept.items():
        if name not in known:
            raise PruningError(f"there is no group `{name}`.{did_you_mean(name, known)}")
        if mask.dtype is not torch.bool or mask.shape != (known[name],):
            raise PruningError(
                f"`{name}` has {known[name]} channels; what is kept of them is told by so many"
                f" bools, not by {mask.dtype} of shape {list(mask.shape)}"
            )
        if not mask.any():
            raise PruningError(f"at least one channel of `{name}` has to stay")


def _tensor_plans(
    model: nn.Module, removed: Mapping[str, Mapping[int, list[Tensor]]]
) -> dict[str, TensorPlan]:
    plans: dict[str, TensorPlan] = {}
    for names, tensor in _tensors(model):
        told = next((removed[name] for name in names if name in removed), None)
        if told is not None:
            kept = tuple(_left(size, told.get(dim)) for dim, size in enumerate(tensor.shape))
            plans.update((name, TensorPlan(tuple(tensor.shape), kept)) for name in names)
    _check_ties(model, plans)
    return plans


def _tensors(model: nn.Module) -> Iterator[tuple[list[str], Tensor]]:
    """Yield each tensor of each module, with all its names: a module may have two."""
    names: dict[tuple[int, str], list[str]] = defaultdict(list)
    found: dict[tuple[int, str], Tensor] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for last, tensor in chain(module._parameters.items(), module._buffers.items()):
            if tensor is not None:
                names[id(module), last].append(f"{path}.{last}".lstrip("."))
                found[id(module), last] = tensor
    yield from ((names[key], tensor) for key, tensor in found.items())


def _left(size: int, gone: list[Tensor] | None) -> Kept:
    if gone is None:
        return None
    stays = torch.ones(size, dtype=torch.bool)
    stays[torch.cat(gone)] = False
    return tuple(stays.nonzero().flatten().tolist())


def _check_ties(model: nn.Module, plans: Mapping[str, TensorPlan]) -> None:
    first: dict[int, str] = {}
    for names, tensor in _tensors(model):
        other = first.setdefault(id(tensor), names[0])
        if plans.get(other) != plans.get(names[0]):
            raise PruningError(
                f"`{names[0]}` and `{other}` are one tensor, and would be cut in two ways"
            )


def _sizes(model: nn.Module, lowered: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    sizes: dict[str, dict[str, int]] = defaultdict(dict)
    for (path, size), by in lowered.items():
        sizes[path][size] = getattr(model.get_submodule(path), size) - by
    return dict(sizes)
