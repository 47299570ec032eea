"""Kernels that do what follows them: casts, norms, factors, sums, activations, the next grid."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from lpot_lightning.quantization.kernels.arithmetic import Int8Weight
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.layers import SUM_POST_OPS, Int8Conv, Int8Layer
from lpot_lightning.quantization.kernels.moving import Dequantize, Divide, Quantize
from lpot_lightning.quantization.kernels.post_op import NONE, PostOp
from lpot_lightning.quantization.program.draft import (
    Drafted,
    Unknown,
    dims_of,
    is_fresh,
    kernel_at,
    only_user,
)
from lpot_lightning.quantization.program.post_ops import post_op_of
from lpot_lightning.quantization.program.scaling import fits
from lpot_lightning.quantization.program.streams import addends


@dataclass(kw_only=True)
class _Chain:
    """A layer, and the ops after it that its kernel can do."""

    layer: Int8Layer
    weight: Int8Weight
    nodes: list[fx.Node]
    post_op: PostOp = NONE
    other: fx.Node | None = None

    @property
    def last(self) -> fx.Node:
        """What gives the value of all of it."""
        return self.nodes[-1]


def lengthen(draft: Drafted) -> None:
    """Let the kernel of each layer do what follows it."""
    for node in draft.steps(Int8Layer):
        if node not in draft.written:
            _Lengthening(draft, node).go()
    order = {node: place for place, node in enumerate(draft.graph.nodes)}
    for node in draft.steps(Int8Conv):
        _protect(draft, node, order)


class _Lengthening:
    """One layer of a draft."""

    def __init__(self, draft: Drafted, node: fx.Node) -> None:
        layer = kernel_at(draft, node)
        assert layer is not None
        self.draft, self.chain = draft, _Chain(layer=layer, weight=layer.rounded, nodes=[node])

    def go(self) -> None:
        chain, first = self.chain, self.chain.nodes[0]
        for step in (
            self._cast, self._norm, self._factor, self._division, self._sum, self._activation
        ):  # fmt: skip
            step()
        out = self._grid_after(chain.last)
        if chain.last is first and out is None:
            return
        made = chain.layer.like(chain.weight, out, chain.post_op)
        given = first.args[0], *self._added(made)
        new = self.draft.add(chain.last, made, given, "chains")
        new.meta |= {"example_value": chain.last.meta.get("example_value")}
        readers = [] if out is None else list(chain.last.users)
        for reader in readers or [chain.last]:
            reader.replace_all_uses_with(new, lambda user: user is not new)
        for gone in (*readers, *reversed(chain.nodes)):
            self.draft.graph.erase_node(gone)

    def _follower(self) -> fx.Node | None:
        """Return who alone reads what the chain gives so far, if it writes to nobody's memory."""
        user = only_user(self.chain.last)
        return None if user in self.draft.written else user

    def _cast(self) -> None:
        user = self._follower()
        if user is not None and user.target == "to" and user.args[1:] == (torch.float32,):
            self.chain.nodes.append(user)

    def _norm(self) -> None:
        """Fold a BatchNorm in eval mode into the scales: what the integers are stays."""
        chain, draft = self.chain, self.draft
        user = self._follower()
        if user is None or user.target is not F.batch_norm:
            return
        given = _arguments(user, _NORM)
        tensors = [given[name] for name in _NORM[1:5]]
        channels_second = dims_of(chain.last) == chain.layer.weight.dim()  # there is a batch
        known = all(one is None or one in draft.constants for one in tensors)
        if given["training"] or None in tensors[:2] or not known or not channels_second:
            return
        try:
            eps = draft.number(given["eps"])
        except Unknown:
            return
        draft.folded += [draft.order[one] for one in tensors if one is not None]
        mean, variance, weight, bias = (draft.values[one] if one else None for one in tensors)
        chain.weight = _normed(chain.weight, mean, variance, weight, bias, eps)
        chain.nodes.append(user)

    def _factor(self) -> None:
        """Give outputs times a tensor of the user's, one number each: the scales and the bias are.

        It is the layer scale of many vision transformers.
        """
        draft, user = self.draft, self._follower()
        if user is None or user.target not in _PRODUCTS or user.kwargs or len(user.args) != 2:
            return
        for held in set(user.args) & draft.constants:
            if _is_one_an_output(draft.values[held], self.chain.layer):
                draft.folded.append(draft.order[held])
                factors = draft.values[held].detach().flatten()
                self.chain.weight = _times(self.chain.weight, factors)
                self.chain.nodes.append(user)

    def _division(self) -> None:
        """Give channels divided by their factors: the scales and the bias are."""
        chain, user = self.chain, self._follower()
        step = self.draft.step(user)
        if user is not None and isinstance(step, Divide) and fits(step, chain.layer):
            chain.weight = _divided(chain.weight, step.factors.flatten())
            chain.nodes.append(user)

    def _sum(self) -> None:
        """Add what stands beside, where the kernel may: a convolution writes its result there."""
        user = self._follower()
        pair = addends(user) if user is not None else ()
        others = [one for one in pair if one is not self.chain.last]
        if user is None or len(others) != 1 or others[0] in self.draft.written:
            return
        into = not isinstance(self.chain.layer, Int8Conv) or (
            is_fresh(self.draft, others[0]) and only_user(others[0]) is user
        )
        if into and self._may_follow_sum(user):
            self.chain.other = others[0]
            self.chain.nodes.append(user)

    def _may_follow_sum(self, user: fx.Node) -> bool:
        after = only_user(user)
        post_op = None if after is None else post_op_of(after, self.draft.number)
        return post_op is None or post_op.name in SUM_POST_OPS

    def _activation(self) -> None:
        user = self._follower()
        post_op = None if user is None else post_op_of(user, self.draft.number)
        if user is not None and post_op is not None:
            self.chain.post_op = post_op
            self.chain.nodes.append(user)

    def _added(self, made: Int8Layer) -> tuple[fx.Node, ...]:
        """Return what the kernel adds: integers where it gives integers, and may write there."""
        other = self.chain.other
        if other is None:
            return ()
        floats = self.draft.step(other)
        if not isinstance(floats, Dequantize) or not isinstance(made, Int8Conv) or not made.out:
            return (other,)
        made.added = floats.grid
        source = other.args[0]
        assert isinstance(source, fx.Node)
        return (source,)

    def _grid_after(self, node: fx.Node) -> Grid | None:
        """Return the grid that all who read ``node`` quantize to, if they all do."""
        steps = [self.draft.step(user) for user in node.users]
        grids = {step.grid if isinstance(step, Quantize) else None for step in steps}
        return grids.pop() if len(grids) == 1 else None


def _protect(draft: Drafted, node: fx.Node, order: Mapping[fx.Node, int]) -> None:
    """Let a sum of integers be written to a copy, where theirs are still read, or by the kernel."""
    kernel = kernel_at(draft, node)
    if kernel is None or kernel.added is None:
        return
    x, into = node.args
    assert isinstance(into, fx.Node)
    others = [one for one in into.users if one is not node]
    safe = all(draft.step(one) is not None and order[one] < order[node] for one in others)
    if x is into or not safe or not is_fresh(draft, into):
        with draft.graph.inserting_before(node):
            copy = draft.graph.call_method("clone", (into,))
        node.args = x, copy


_PRODUCTS = {operator.mul, torch.mul, "mul"}
_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
_NORM_DEFAULTS = {"weight": None, "bias": None, "training": False, "momentum": 0.1, "eps": 1e-5}


def _arguments(node: fx.Node, names: Iterable[str]) -> dict[str, Any]:
    return {**_NORM_DEFAULTS, **dict(zip(names, node.args, strict=False)), **node.kwargs}


def _is_one_an_output(factors: Any, layer: Int8Layer) -> bool:
    """Whether there is one factor for each output of ``layer``, whose channels may stand first."""
    alike = isinstance(factors, Tensor) and factors.dtype is torch.float32
    places = layer.weight.dim() - 2
    return alike and tuple(factors.shape) == (len(layer.scales), *[1] * places)


def _divided(rounded: Int8Weight, factors: Tensor) -> Int8Weight:
    bias = None if rounded.bias is None else rounded.bias / factors
    return Int8Weight(rounded.values, rounded.scales / factors, bias)


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
    made = _times(Int8Weight(rounded.values, rounded.scales, shift), factor)
    if bias is not None:
        made = Int8Weight(made.values, made.scales, shift * factor + bias.detach().float())
    return made


def _times(rounded: Int8Weight, factor: Tensor) -> Int8Weight:
    """Return a weight with a factor for each output."""
    sign = torch.where(factor < 0, -1, 1).to(torch.int8)  # a scale is never below 0
    values = rounded.values * sign.view(-1, *[1] * (rounded.values.dim() - 1))
    bias = None if rounded.bias is None else rounded.bias * factor
    return Int8Weight(values, rounded.scales * factor.abs(), bias)
