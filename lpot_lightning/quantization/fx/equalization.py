"""Where channels between two layers may be rescaled, and by how much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from lpot_lightning.quantization.fx.graph import GraphOps, is_observer
from lpot_lightning.quantization.fx.layer import LinearLayer
from lpot_lightning.quantization.fx.observer import RangeObserver

_KEEPS_CHANNELS: tuple[object, ...] = (
    nn.ReLU, F.relu,
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, F.dropout,
)  # fmt: skip
_POOLS: tuple[object, ...] = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, F.max_pool1d, F.max_pool2d, F.max_pool3d,
    nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d,
)  # fmt: skip
_LAST_STEP = 1e-3
_MOST_STEPS = 50
_SMALLEST, _LARGEST = 1e-6, 1e6


@dataclass
class Boundary:
    """What lies between two layers, of which the second alone reads the first.

    Every channel between them may be divided by a factor of its own, in the weights of the first,
    and multiplied by it again, in those of the second: what lies between is positively homogeneous
    and works channel by channel.

    Args:
        producer: the first op.
        consumer: the second.
        inner: nodes that observe what lies between as the producer lays it out.
        outer: the same, once it is laid out as the consumer reads it.
        trailing: how many dimensions come after that of the channels in ``inner``.
        repeat: how many neighbours in what the consumer reads come from one channel.
        range: watches what would lie between.
        factors: one for each channel that the producer gives.
    """

    producer: str
    consumer: str
    inner: tuple[Node, ...]
    outer: tuple[Node, ...]
    trailing: int
    repeat: int
    range: RangeObserver
    factors: Tensor = field(default_factory=lambda: torch.ones(1))

    @property
    def read_factors(self) -> Tensor:
        """One factor for each channel that the consumer reads."""
        return self.factors.repeat_interleave(self.repeat)

    def factors_at(self, observer: Node) -> Tensor:
        """Return the factors so that they go with the value at ``observer``."""
        if observer in self.inner:
            return self.factors.reshape(-1, *[1] * self.trailing)
        return self.read_factors

    def see(self, module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
        """Take in what the producer would give, in a call of its layer."""
        self.range(output / self.factors.reshape(-1, *[1] * self.trailing))


def find_boundaries(
    graph: GraphModule, ops: GraphOps, layers: Mapping[str, LinearLayer], reduce_range: bool
) -> list[Boundary]:
    """Return all boundaries of a prepared graph, in its order; ``balance`` finds their factors."""
    op_at = {ops.nodes[op][0]: op for op in layers if len(ops.nodes[op]) == 1}
    found = []
    for last, consumer in op_at.items():
        chain = list(_back_from(last, graph, op_at))
        if chain and chain[-1] in op_at:
            ends = op_at[chain[-1]], consumer
            boundary = _boundary(ends, chain[:-1], graph, layers, reduce_range)
            found += [boundary] if boundary else []
    return found


def _back_from(node: Node, graph: GraphModule, ends: Mapping[Node, str]) -> Iterator[Node]:
    """Yield what lies before ``node``, up to an op of ``ends``, while nothing else reads it."""
    while True:
        before = node.all_input_nodes
        if len(before) != 1 or len(before[0].users) != 1:
            return
        node = before[0]
        yield node
        passes = is_observer(node, graph) or _step(node, graph) is not None
        if node in ends or not passes:
            return


def _boundary(
    ends: tuple[str, str],
    between: list[Node],
    graph: GraphModule,
    layers: Mapping[str, LinearLayer],
    reduce_range: bool,
) -> Boundary | None:
    first, second = (layers[end] for end in ends)
    inner: list[Node] = []
    outer: list[Node] = []
    reshaped = False
    for node in reversed(between):
        if is_observer(node, graph):
            (outer if reshaped else inner).append(node)
            continue
        step = _step(node, graph)
        if step == "reshapes" and (reshaped or not first.spatial or second.spatial):
            return None
        if step == "pools" and not first.spatial:
            return None
        reshaped |= step == "reshapes"
    alike = first.spatial == second.spatial
    repeat, rest = divmod(second.inputs, first.outputs)
    if rest or not (alike and repeat == 1 if not reshaped else True):
        return None
    return Boundary(
        *ends, tuple(inner), tuple(outer), first.spatial, repeat, RangeObserver(reduce_range)
    )


def _step(node: Node, graph: GraphModule) -> str | None:
    """Return what ``node`` does to channels; ``None`` where nothing is known of it."""
    target: Any = node.target
    if node.op == "call_module":
        layer = graph.get_submodule(str(target))
        if isinstance(layer, nn.Flatten):
            return "reshapes" if (layer.start_dim, layer.end_dim) == (1, -1) else None
        target = type(layer)
    if target in _KEEPS_CHANNELS:
        return "keeps"
    if target in _POOLS:
        return "pools"
    name = target if node.op == "call_method" else getattr(target, "__name__", "")
    if name == "flatten":
        return "reshapes" if _given(node, start_dim=0, end_dim=-1) == [1, -1] else None
    if name == "mean":
        return "reshapes" if _averages_places(node) else None
    return None


def _given(node: Node, **defaults: Any) -> list[Any]:
    """Return the arguments of ``node`` after the first, by position or by name."""
    rest = list(node.args[1:])
    names = list(defaults)
    return [*rest, *(node.kwargs.get(name, defaults[name]) for name in names[len(rest) :])]


def _averages_places(node: Node) -> bool:
    """Whether a mean leaves the channels alone, and nothing after them."""
    dims, keepdim = _given(node, dim=None, keepdim=False)[:2]
    dims = [dims] if isinstance(dims, int) else dims
    if not isinstance(dims, list | tuple) or keepdim:
        return False
    return sorted(dims) in ([2], [-1], [2, 3], [-2, -1], [2, 3, 4], [-3, -2, -1])


def balance(boundaries: Sequence[Boundary], layers: Mapping[str, LinearLayer]) -> None:
    """Find the factors, from the weights alone.

    Cross-layer equalization (Nagel et al., Data-Free Quantization Through Weight Equalization and
    Bias Correction, ICCV 2019, eq. 11): a factor of ``sqrt(r1 / r2)`` makes the range ``r1`` that a
    channel is given with and ``r2`` that it is read with the same; several layers in a row are
    gone over until nothing changes. Two things differ. Where each output channel of a weight has a
    scale of its own, ``r2`` is the range in relation to that scale. A bias counts in ``r1``: a
    channel of small weights and a large bias gives large values.
    """
    repeats = {boundary.consumer: boundary.repeat for boundary in boundaries}
    sizes = {op: _sizes(layers[op], repeats.get(op, 1)) for op in _ends(boundaries)}
    for boundary in boundaries:
        boundary.factors = torch.ones(layers[boundary.producer].outputs)
    for _ in range(_MOST_STEPS):
        steps = [_step_of(boundary, boundaries, layers, sizes) for boundary in boundaries]
        if max((float(step.log().abs().max()) for step in steps), default=0.0) < _LAST_STEP:
            return


def _sizes(layer: LinearLayer, repeat: int) -> Tensor:
    """Return the largest weight between each two channels, as ``[groups, outputs, inputs]``.

    Neighbours in what a layer reads that come from one channel are one input here.
    """
    largest = layer.by_groups(layer.weight.detach().abs()).amax(3)
    return largest.reshape(*largest.shape[:2], -1, repeat).amax(3)


def _ends(boundaries: Sequence[Boundary]) -> set[str]:
    return {end for boundary in boundaries for end in (boundary.producer, boundary.consumer)}


def _step_of(
    boundary: Boundary,
    boundaries: Sequence[Boundary],
    layers: Mapping[str, LinearLayer],
    sizes: Mapping[str, Tensor],
) -> Tensor:
    """Change the factors of one boundary by the other factors of now; return the change."""
    first, second = layers[boundary.producer], layers[boundary.consumer]
    given = sizes[boundary.producer]
    for before in boundaries:
        if before.consumer == boundary.producer:
            given = given * first.per_input(before.factors)[..., 0]
    given = given.amax(2).flatten()
    if first.bias is not None:
        given = torch.maximum(given, first.bias.detach().abs())
    read = sizes[boundary.consumer] * second.per_input(boundary.factors)[..., 0]
    read = read / (read.amax(2, keepdim=True) if second.per_channel else read.amax())
    taken = read.nan_to_num(0.0).amax(1).flatten()
    step = (given / boundary.factors / taken).sqrt()
    usable = torch.isfinite(step) & (step > 0)
    step = torch.where(usable, step, torch.ones(()))
    step = torch.where(usable, step / step[usable].log().mean().exp(), step)
    changed = (boundary.factors * step).clamp(_SMALLEST, _LARGEST)
    step = changed / boundary.factors
    boundary.factors = changed
    return step
