"""From where channels are found to groups that go together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from lpot_lightning.pruning.channels.group import ChannelGroups, Group, Slices
from lpot_lightning.pruning.channels.layers import (
    ROOTS,
    Dims,
    Side,
    given_by,
    is_grouped,
    read_by,
)
from lpot_lightning.pruning.channels.trace import Graph, NodeSide, Pair, spread

Class = dict[NodeSide, list[int]]
"""Where one channel is: all indices at each place."""


class Unfit(Exception):
    """Why channels cannot be cut."""


@dataclass
class Draft:
    """A group in the making."""

    zeroed: list[Slices] = field(default_factory=list)
    read: list[Slices] = field(default_factory=list)
    carried: list[Slices] = field(default_factory=list)
    sizes: list[tuple[str, str, int]] = field(default_factory=list)

    def finished(self, name: str, n: int) -> Group:
        """Return the group."""
        return Group(
            name=name,
            n=n,
            zeroed=tuple(self.zeroed),
            read=tuple(self.read),
            carried=tuple(self.carried),
            sizes=tuple(self.sizes),
        )


def coupled(model: nn.Module, graph: Graph) -> ChannelGroups:
    """Return the groups of channels in ``graph``; they are not proved yet.

    Args:
        model: whose graph it is.
        graph: as ``graph_of`` gives it.
    """
    paths = {module: path for path, module in model.named_modules()}
    taken: dict[nn.Module, set[int]] = defaultdict(set)
    groups: list[Group] = []
    excluded: dict[str, str] = {}
    for layer, path in paths.items():
        if not isinstance(layer, ROOTS):
            continue
        if graph.node_of(layer) is None:
            excluded[path] = "it is not called, or where no gradient flows"
            continue
        free = sorted(set(range(_width(layer))) - taken[layer])
        for count, alike in enumerate(_alike(graph, layer, free)):
            _take(taken, alike)
            try:
                groups.append(_group(graph, paths, f"{path}#{count}" if count else path, alike))
            except Unfit as reason:
                excluded.update((one, str(reason)) for one in _layers(paths, alike))
    return ChannelGroups(tuple(groups), excluded)


def _width(layer: nn.Module) -> int:
    for name in ("out_channels", "out_features", "embedding_dim"):
        if hasattr(layer, name):
            return int(getattr(layer, name))
    raise TypeError(layer)


def _alike(graph: Graph, layer: nn.Module, channels: list[int]) -> Iterator[list[Class]]:
    """Yield the channels that ``layer`` gives, those together that are at the same places."""
    if not channels:
        return
    found = spread(graph, layer, channels)
    sorted_by: dict[frozenset[tuple[NodeSide, int]], list[Class]] = defaultdict(list)
    for one in _classes(found, channels):
        real = {place: at for place, at in one.items() if _is_real(graph, place)}
        sorted_by[frozenset((place, len(at)) for place, at in real.items())].append(real)
    yield from sorted_by.values()


def _classes(found: Mapping[NodeSide, set[Pair]], channels: list[int]) -> list[Class]:
    """Return the channels; those that meet anywhere are one."""
    # Union-find: channels meet in chains (a concatenation behind an addition), and only who is in
    # one class at the end of all of them may be cut without the others.
    first = {channel: channel for channel in channels}

    def lead(channel: int) -> int:
        while first[channel] != channel:
            first[channel] = channel = first[first[channel]]
        return channel

    for pairs in found.values():
        here: dict[int, int] = {}
        for index, channel in pairs:
            first[lead(channel)] = lead(here.setdefault(index, channel))
    classes: dict[int, dict[NodeSide, set[int]]] = {}
    for place, pairs in found.items():
        for index, channel in pairs:
            classes.setdefault(lead(channel), defaultdict(set))[place].add(index)
    return [{p: sorted(at) for p, at in classes[one].items()} for one in sorted(classes)]


def _is_real(graph: Graph, place: NodeSide) -> bool:
    """Whether something is cut there, or leaves the model."""
    node, _ = place
    ours = type(node.module).__module__ != "torch_pruning.ops"
    return ours or graph.output_of(node) is not None


def _take(taken: dict[nn.Module, set[int]], alike: list[Class]) -> None:
    for one in alike:
        for (node, reads), at in one.items():
            if not reads and isinstance(node.module, ROOTS):
                taken[node.module].update(at)


def _layers(paths: Mapping[nn.Module, str], alike: list[Class]) -> Iterator[str]:
    for node, reads in alike[0]:
        if not reads and isinstance(node.module, ROOTS):
            yield paths[node.module]


def _group(graph: Graph, paths: Mapping[nn.Module, str], name: str, alike: list[Class]) -> Group:
    draft, order = Draft(), {module: number for number, module in enumerate(paths)}
    for place in sorted(alike[0], key=lambda one: (order.get(one[0].module, -1), one[1])):
        index = torch.tensor([one[place] for one in alike])
        node, reads = place
        given = graph.output_of(node)
        if given is not None:
            called = f"`{given}`" if given else "the model"
            raise Unfit(f"its channels are what {called} gives")
        if isinstance(node.module, Tensor):
            parameter = graph.parameter_name(node.module)
            _add(draft.zeroed, parameter, node.module, node.pruning_dim, index)
        else:
            _add_layer(draft, paths[node.module], node.module, reads, index)
    if len(alike) < 2:
        raise Unfit("it has one channel only")
    return draft.finished(name, len(alike))


def _add_layer(draft: Draft, path: str, layer: nn.Module, reads: bool, index: Tensor) -> None:
    side = read_by(layer) if reads else given_by(layer)
    if not isinstance(side, Side):
        raise Unfit(f"`{path}` {side}")
    pairs = ((draft.zeroed, side.zeroed), (draft.read, side.read), (draft.carried, side.carried))
    for into, dims in pairs:
        _add_tensors(into, path, layer, dims, index)
    for size in side.sizes:
        draft.sizes.append((path, size, index.shape[1] // _width_of(layer, size)))


def _add_tensors(
    into: list[Slices], path: str, layer: nn.Module, dims: Dims, index: Tensor
) -> None:
    for name, dim in dims.items():
        tensor = getattr(layer, name)
        if tensor is None:
            continue
        if name not in layer._parameters and name not in layer._buffers:
            raise Unfit(f"the `{name}` of `{path}` is computed from others")
        by_place = isinstance(layer, _ConvNd) and is_grouped(layer) and dim == 1
        at = _in_each_group(index, tensor.shape[1]) if by_place else index
        _add(into, f"{path}.{name}".lstrip("."), tensor, dim, at)


def _width_of(layer: nn.Module, size: str) -> int:
    """Return how many of the channels that a layer reads count as one in an attribute."""
    grouped = isinstance(layer, _ConvNd) and size == "groups"
    return layer.in_channels // layer.groups if grouped else 1  # type: ignore[operator,return-value]


def _in_each_group(index: Tensor, width: int) -> Tensor:
    """Return the places of channels in the groups of a convolution, each once."""
    return torch.stack([(one % width).unique() for one in index])


def _add(into: list[Slices], name: str, tensor: Tensor, dim: int, index: Tensor) -> None:
    if int(index.max()) >= tensor.shape[dim]:
        raise Unfit(f"its channels cannot be followed to `{name}`")
    into.append(Slices(name, dim, index))
