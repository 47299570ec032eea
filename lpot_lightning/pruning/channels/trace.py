"""Follow channels through a model, by Torch-Pruning's graph."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from lpot_lightning.errors import ConfError
from lpot_lightning.pruning.channels.entering import CallsByPath, entered
from lpot_lightning.pruning.channels.layers import goes_by_groups, is_grouped

NodeSide = tuple[Any, bool]
"""A node of Torch-Pruning's graph, and whether its channels are those that it reads."""
Pair = tuple[int, int]
"""An index at a place, and that of the channel of the root that it belongs to."""


@dataclass(frozen=True)
class Graph:
    """Torch-Pruning's graph of a model.

    Args:
        graph: a ``torch_pruning.DependencyGraph``.
        outputs: for what autograd calls an output: the path of the module that gives it.
        index: of Torch-Pruning: an index with the one of the root.
    """

    graph: Any
    outputs: dict[Any, str]
    index: Callable[..., Any]

    def node_of(self, layer: nn.Module) -> Any | None:
        """Return the node of ``layer``, ``None`` where it took no part."""
        return self.graph.module2node.get(layer)

    def parameter_name(self, parameter: Tensor) -> str:
        """Return the name of a parameter that belongs to no known layer."""
        return str(self.graph._param_to_name[parameter])

    def output_of(self, node: Any) -> str | None:
        """Return the path of the module whose output ``node`` is, ``None`` where it is none."""
        return self.outputs.get(node.grad_fn)


def torch_pruning() -> Any:
    """Return the package.

    Raises:
        ConfError: where it is not installed.
    """
    try:
        import torch_pruning as package  # type: ignore[import-untyped]  # an extra, slow to import
    except ImportError as error:
        raise ConfError(
            "`pattern: channel` needs the package Torch-Pruning:"
            " `pip install lpot-lightning[channels]`"
        ) from error
    return package


def graph_of(model: nn.Module, calls: CallsByPath) -> Graph:
    """Return how the layers of ``model`` hang together in all ``calls``.

    Args:
        model: a copy, in eval mode, all of whose parameters require a gradient.
        calls: as of ``find_groups``.
    """
    package, outputs = torch_pruning(), dict[Any, str]()

    def enter(model: nn.Module, _: object) -> list[Tensor]:
        """What a layer gives as the last one is no output to Torch-Pruning; a copy of it is."""
        copies = []
        for path, given in entered(model, calls):
            copies += [(path, one.clone()) for one in given if one.grad_fn is not None]
        outputs.update((one.grad_fn, path) for path, one in copies)
        return [one for _, one in copies]

    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        graph = package.DependencyGraph()
        graph.build_dependency(model, None, forward_fn=enter, verbose=False)
    return Graph(graph, outputs, package._helpers._HybridIndex)


def spread(graph: Graph, layer: nn.Module, channels: list[int]) -> dict[NodeSide, set[Pair]]:
    """Return where the ``channels`` that ``layer`` gives are found in the graph.

    Torch-Pruning's own groups forget which channels of a layer are coupled with each other, as
    the two halves of a gated linear unit are.
    """
    node = graph.graph.module2node[layer]
    start = graph.graph.get_pruner_of_module(layer).prune_out_channels
    found: dict[Any, set[Pair]] = defaultdict(set)
    found[node, start] = {(one, one) for one in channels}
    todo = [(node, start, found[node, start])]
    while todo:
        node, deed, pairs = todo.pop()
        for target, handler, reached in _next(graph, node, deed, pairs):
            new = reached - found[target, handler]
            if new:
                found[target, handler] |= new
                todo.append((target, handler, new))
    return _places(graph, found)


def _next(
    graph: Graph, node: Any, deed: Any, pairs: set[Pair]
) -> Iterator[tuple[Any, Any, set[Pair]]]:
    """Yield what has to be cut if ``deed`` is done to ``node``."""
    for dependency in node.dependencies:
        if dependency.is_triggered_by(deed):
            mapped = pairs
            for mapping in dependency.index_mapping:
                if mapping is not None:
                    indices = mapping([graph.index(*pair) for pair in mapped])
                    mapped = {(one.idx, one.root_idx) for one in indices}
            yield dependency.target, dependency.handler, mapped
    if isinstance(node.module, _ConvNd) and is_grouped(node.module):
        yield from _next_in_groups(graph, node, deed, pairs)


def _next_in_groups(
    graph: Graph, node: Any, deed: Any, pairs: set[Pair]
) -> Iterator[tuple[Any, Any, set[Pair]]]:
    """Yield what has to be cut of a grouped convolution so that its groups stay of one size.

    Torch-Pruning's graph has its two sides apart, and leaves that to its own importance.
    """
    conv, pruner = node.module, graph.graph.get_pruner_of_module(node.module)
    handlers = (pruner.prune_in_channels, pruner.prune_out_channels)
    widths = (conv.in_channels // conv.groups, conv.out_channels // conv.groups)
    here = handlers.index(deed)
    if goes_by_groups(conv):  # all that is read and given by a group
        for handler, width in zip(handlers, widths, strict=True):
            groups = {(at // widths[here], root) for at, root in pairs}
            yield node, handler, {(g * width + i, root) for g, root in groups for i in range(width)}
    else:  # the channel at the same place in each group
        places = {(at % widths[here], root) for at, root in pairs}
        same = {(g * widths[here] + i, root) for i, root in places for g in range(conv.groups)}
        yield node, deed, same


def _places(graph: Graph, found: dict[Any, set[Pair]]) -> dict[NodeSide, set[Pair]]:
    places: dict[NodeSide, set[Pair]] = defaultdict(set)
    for (node, handler), pairs in found.items():
        pruner = graph.graph.get_pruner_of_module(node.module)
        reads = handler != pruner.prune_out_channels
        places[node, reads] |= pairs
    return places
