"""Int8 values that flow from kernel to kernel: what stands between them moves into them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from lpot_lightning.quantization.graph.capture import constants
from lpot_lightning.quantization.graph.ops import LAYER, QUANTIZE, grid_of, layer_of, numbered
from lpot_lightning.quantization.kernels.arithmetic import Int8Weight
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.layers import Int8Conv, Int8Layer
from lpot_lightning.quantization.kernels.post_op import NONE, PostOp

_PLAIN_POST_OPS: dict[Any, PostOp] = {
    F.relu: PostOp("relu"),
    torch.relu: PostOp("relu"),
    "relu": PostOp("relu"),
    "relu_": PostOp("relu"),
    F.relu6: PostOp("hardtanh", (0.0, 6.0)),
    F.silu: PostOp("swish"),
    F.hardswish: PostOp("hardswish"),
    torch.tanh: PostOp("tanh"),
    "tanh": PostOp("tanh"),
}
_VIEWS = ("flatten", "view", "reshape", "permute", "transpose", "contiguous", "unflatten")
_MOVES = {*_VIEWS, torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.unflatten}
"""What only moves values, so that it may move integers as well."""


class Fused:
    """Computes a graph with what could be moved into its kernels.

    What is folded are tensors of the user's modules and of the layers. When one of them is another
    or has changed, it is done again.

    Args:
        graph: as it was captured; it is left as it is.
        inputs: of its first call.
    """

    def __init__(self, graph: fx.GraphModule, inputs: Sequence[Any]) -> None:
        self._graph = graph
        self._compute: Callable[..., Any]
        self._fuse(inputs)

    def __call__(self, *inputs: Any) -> Any:
        """Return what the graph gives."""
        if self._versions(inputs) != self._seen:
            self._fuse(inputs)
        return self._compute(*inputs)

    def _fuse(self, inputs: Sequence[Any]) -> None:
        self._plan = _Plan(self._graph, inputs)
        self._compute = self._plan.graph.forward
        self._seen = self._versions(inputs)

    def _versions(self, inputs: Sequence[Any]) -> list[tuple[float, int]]:
        tensors = [inputs[place] for place in self._plan.folded]
        tensors += [one for layer in self._plan.sources for one in layer.buffers()]
        numbers = [(float(inputs[place]), 0) for place in self._plan.numbers]
        versions = [(one.data_ptr(), 0 if one.is_inference() else one._version) for one in tensors]
        return numbers + versions


@dataclass
class _Chain:
    """A layer, and the ops after it that its kernel can do."""

    layer: Int8Layer
    weight: Int8Weight
    nodes: list[fx.Node]
    post_op: PostOp = NONE

    @property
    def last(self) -> fx.Node:
        """What gives the value of all of it."""
        return self.nodes[-1]


class _Plan:
    """One pass over one graph.

    Attributes:
        graph: the new one.
        folded: which inputs are folded into kernels as tensors.
        numbers: which are as numbers, attributes of modules for one.
        sources: the layers that kernels were made of.
        made: those kernels; a graph knows them by their number, and they live as long as this.
    """

    def __init__(self, graph: fx.GraphModule, inputs: Sequence[Any]) -> None:
        self.graph = fx.GraphModule(graph, graph.graph.__deepcopy__({}))
        places = [node for node in self.graph.graph.nodes if node.op == "placeholder"]
        self._values = dict(zip(places, inputs, strict=True))
        held = {node.name for node in constants(graph, inputs)}
        self._constants = {node for node in places if node.name in held}
        self._order = {node: number for number, node in enumerate(places)}
        self.folded: list[int] = []
        self.numbers: list[int] = []
        self.sources: list[Int8Layer] = []
        self.made: list[Int8Layer] = []
        self._go()

    def _go(self) -> None:
        for node in self._nodes(QUANTIZE):
            self._raise(node)
        for node in self._nodes(LAYER):
            self._lengthen(node)
        for node in self._nodes("item"):
            if not node.users:
                self.graph.graph.erase_node(node)
        self.graph.graph.lint()
        self.graph.recompile()

    def _nodes(self, target: Any) -> list[fx.Node]:
        return [node for node in self.graph.graph.nodes if node.target == target]

    def _raise(self, quantize: fx.Node) -> None:
        """Quantize before what only moves values."""
        while True:
            moved = quantize.args[0]
            assert isinstance(moved, fx.Node)
            if moved.target not in _MOVES or len(moved.users) > 1 or _names_floats(moved):
                return
            source = moved.args[0]
            with self.graph.graph.inserting_before(moved):
                sooner = self.graph.graph.call_function(QUANTIZE, (source, *quantize.args[1:]))
            moved.replace_input_with(source, sooner)  # type: ignore[arg-type]
            quantize.replace_all_uses_with(moved)
            self.graph.graph.erase_node(quantize)
            quantize = sooner

    def _lengthen(self, node: fx.Node) -> None:
        """Let the kernel of a layer do what follows it."""
        layer = layer_of(int(node.args[1]))  # type: ignore[arg-type]
        assert isinstance(layer, Int8Layer)
        chain = _Chain(layer, layer.rounded, [node])
        for step in (self._cast, self._norm, self._activation):
            step(chain)
        out = self._grid_after(chain.last)
        if chain.last is node and out is None:
            return
        made = layer.like(chain.weight, out, chain.post_op)
        self.sources.append(layer)
        self.made.append(made)
        with self.graph.graph.inserting_after(chain.last):
            new = self.graph.graph.call_function(LAYER, (node.args[0], numbered(made)))
        readers = [] if out is None else list(chain.last.users)
        for reader in readers or [chain.last]:
            reader.replace_all_uses_with(new)
        for gone in (*readers, *reversed(chain.nodes)):
            self.graph.graph.erase_node(gone)

    def _cast(self, chain: _Chain) -> None:
        user = _only_user(chain.last)
        if user is not None and user.target == "to" and user.args[1:] == (torch.float32,):
            chain.nodes.append(user)

    def _norm(self, chain: _Chain) -> None:
        """Fold a BatchNorm in eval mode into the scales: what the integers are stays."""
        user = _only_user(chain.last)
        if user is None or user.target is not F.batch_norm:
            return
        given = _arguments(user, _NORM)
        tensors = [given[name] for name in _NORM[1:5]]
        value = chain.last.meta.get("example_value")
        channels_second = isinstance(chain.layer, Int8Conv) or (
            isinstance(value, Tensor) and value.dim() == 2
        )
        known = all(one is None or one in self._constants for one in tensors)
        if given["training"] or None in tensors[:2] or not known or not channels_second:
            return
        try:
            eps = self._number(given["eps"])
        except _Unknown:
            return
        self.folded += [self._order[one] for one in tensors if one is not None]
        mean, variance, weight, bias = (self._values[one] if one else None for one in tensors)
        chain.weight = _normed(chain.weight, mean, variance, weight, bias, eps)
        chain.nodes.append(user)

    def _activation(self, chain: _Chain) -> None:
        user = _only_user(chain.last)
        post_op = None if user is None else _post_op_of(user, self._number)
        if user is not None and post_op is not None:
            chain.post_op = post_op
            chain.nodes.append(user)

    def _number(self, given: Any) -> float:
        """Return a number that is given to an op; one that a module holds is noted, and checked.

        Dynamo passes an attribute that is a float as a tensor, since it may change.
        """
        if not isinstance(given, fx.Node):
            return float(given)
        if given.target != "item" or given.args[0] not in self._order:
            raise _Unknown
        source = given.args[0]
        assert isinstance(source, fx.Node)
        self.numbers.append(self._order[source])
        return float(self._values[source])

    def _grid_after(self, node: fx.Node) -> Grid | None:
        """Return the grid that all who read ``node`` quantize to, if they all do."""
        users = list(node.users)
        if not users or any(user.target is not QUANTIZE for user in users):
            return None
        first, *others = {grid_of(int(user.args[1])) for user in users}  # type: ignore[arg-type]
        return None if others else first


_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
_NORM_DEFAULTS = {"weight": None, "bias": None, "training": False, "momentum": 0.1, "eps": 1e-5}


def _arguments(node: fx.Node, names: Iterable[str]) -> dict[str, Any]:
    return {**_NORM_DEFAULTS, **dict(zip(names, node.args, strict=False)), **node.kwargs}


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _names_floats(node: fx.Node) -> bool:
    """Whether an op that moves values also says of what type they are to be."""
    return any(isinstance(one, torch.dtype) for one in (*node.args, *node.kwargs.values()))


class _Unknown(Exception):
    """A number is computed in the graph."""


def _post_op_of(node: fx.Node, number: Callable[[Any], float]) -> PostOp | None:
    """Return the activation function that ``node`` is, if a kernel may have it."""
    if node.target in _PLAIN_POST_OPS:
        return _PLAIN_POST_OPS[node.target]
    named = dict(zip(_NAMES.get(node.target, ()), node.args, strict=False)) | node.kwargs
    try:
        if node.target is F.hardtanh:
            ends = named.get("min_val", -1.0), named.get("max_val", 1.0)
            return PostOp("hardtanh", (number(ends[0]), number(ends[1])))
        if node.target is F.leaky_relu:
            return PostOp("leaky_relu", (number(named.get("negative_slope", 0.01)),))
    except _Unknown:
        return None
    if node.target in (F.gelu, torch._C._nn.gelu):
        return PostOp("gelu", (), str(named.get("approximate", "none")))
    return None


_NAMES: dict[Any, tuple[str, ...]] = {
    F.hardtanh: ("input", "min_val", "max_val"),
    F.leaky_relu: ("input", "negative_slope"),
}


def _normed(
    rounded: Int8Weight,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Int8Weight:
    assert mean is not None
    assert variance is not None
    factor = torch.rsqrt(variance.detach().float() + eps)
    if weight is not None:
        factor = factor * weight.detach().float()
    shift = (0.0 if rounded.bias is None else rounded.bias) - mean.detach().float()
    shift = shift * factor
    if bias is not None:
        shift = shift + bias.detach().float()
    sign = torch.where(factor < 0, -1, 1).to(torch.int8)  # a scale is never below 0
    values = rounded.values * sign.view(-1, *[1] * (rounded.values.dim() - 1))
    return Int8Weight(values, rounded.scales * factor.abs(), shift)
