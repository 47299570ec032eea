"""Channels that go together: what they are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Slices:
    """Which entries of a tensor belong to each channel of a group.

    Args:
        name: of a parameter or buffer of the model.
        dim: the dimension that the channels lie along.
        index: ``[n, k]``: for each channel its ``k`` indices along ``dim``, on the CPU.
    """

    name: str
    dim: int
    index: Tensor

    def of(self, tensor: Tensor) -> Tensor:
        """Return the entries of each channel in ``tensor``: ``[n, entries]``."""
        picked = tensor.index_select(self.dim, self.index.flatten().to(tensor.device))
        return picked.movedim(self.dim, 0).reshape(len(self.index), -1)


@dataclass(frozen=True, eq=False, kw_only=True)
class Group:
    """Channels of several layers that can only go together.

    Args:
        name: the path of the layer that they were followed from.
        n: how many there are.
        zeroed: tensors whose entries are zero when a channel is masked: then it is zero everywhere.
        read: tensors of the layers that read the channels; cut with them.
        carried: what else is cut with them: running statistics, slopes of a PReLU.
        sizes: ``(module path, attribute, k)``: cutting a channel lowers the attribute by ``k``.

    Example::

        weight = group.zeroed[0].of(params[group.zeroed[0].name])  # [n, entries]
    """

    name: str
    n: int
    zeroed: tuple[Slices, ...]
    read: tuple[Slices, ...]
    carried: tuple[Slices, ...]
    sizes: tuple[tuple[str, str, int], ...]

    @property
    def cut(self) -> tuple[Slices, ...]:
        """All that gets smaller."""
        return (*self.zeroed, *self.read, *self.carried)

    @property
    def layers(self) -> tuple[str, ...]:
        """The paths of the modules that give these channels, or carry them."""
        names = (part.name.rpartition(".")[0] for part in (*self.zeroed, *self.carried))
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True, eq=False)
class ChannelGroups:
    """The groups of a model that can be cut, and why other layers cannot.

    Args:
        groups: proved: cutting any of their channels gives what masking them gives.
        excluded: the reason, by the path of the layer.
    """

    groups: tuple[Group, ...]
    excluded: Mapping[str, str]

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    def __getitem__(self, name: str) -> Group:
        return next(group for group in self.groups if group.name == name)


def mask(params: Mapping[str, Tensor], group: Group, kept: Tensor) -> None:
    """Set the channels of ``group`` that are not ``kept`` to zero, in place.

    Args:
        params: the parameters of the model by name, ``remove_duplicate=False``.
        group: whose channels.
        kept: ``[n]``, bool.

    Example::

        mask(dict(model.named_parameters(remove_duplicate=False)), group, scores > threshold)
    """
    gone = ~kept.cpu()
    with torch.no_grad():
        for part in group.zeroed:
            tensor = params[part.name]
            tensor.index_fill_(part.dim, part.index[gone].flatten().to(tensor.device), 0)
