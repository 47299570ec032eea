"""Layers of the user's model as training graphs call them: their own weights, rounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from lpot_lightning.quantization.fx.capability import OP_LAYERS
from lpot_lightning.quantization.fx.fake_quant import rounded_rows, rounded_weight

_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}


class TrainingLayer(nn.Module):
    """A Linear or a convolution, with the BatchNorm and the ReLU that int8 computes with it.

    It has no tensors of its own: it reads those of the user's layers at each call, so that the
    optimizer, a mask, a parametrization and a checkpoint see and change what it uses.

    In eval mode, and where the statistics of its BatchNorm are frozen, the norm is folded into the
    weight before it is rounded, as int8 does (Jacob et al., 2018, section 3.2). While the
    statistics are learned the weight is rounded as it is: with one symmetric scale a channel,
    rounding and the norm's factor can change places, and the output need not be scaled back as in
    torch's ``ConvBn2d``. A transposed convolution has one
    scale for all, so there the weight is scaled, rounded, and the output scaled back.

    Args:
        layer: the user's own.
        norm: the user's own, if int8 folds one into the layer.
        relu: whether int8 computes one with it.
        rounds: whether the layer is int8 in the end; if not, nothing is rounded here.
    """

    layer: Any
    norm: Any

    def __init__(
        self, layer: nn.Module, norm: nn.Module | None, *, relu: bool, rounds: bool
    ) -> None:
        super().__init__()
        self.layer, self.norm = layer, norm
        self._relu, self._rounds = relu, rounds
        self._transposed = isinstance(layer, _ConvTransposeNd)
        self._axis = None if self._transposed else 0
        self._out = 1 if self._transposed else 0

    def forward(self, x: Tensor, *rest: Any) -> Tensor:
        """Compute the layer, the norm and the ReLU."""
        for hook in self.layer._forward_pre_hooks.values():  # those that compute a weight
            hook(self.layer, (x, *rest))
        out = self._computed(x, *rest)
        return F.relu(out) if self._relu else out

    def _computed(self, x: Tensor, *rest: Any) -> Tensor:
        layer, norm = self.layer, self.norm
        if norm is None:
            return self._linear(x, self._round(layer.weight), layer.bias, *rest)
        if not norm.training:
            return self._folded(x, norm, *rest)
        if self._axis is None and self._rounds:
            factor = self._factor(norm)
            weight = self._round(layer.weight * self._on(factor, layer.weight, self._out))
            out = self._linear(x, weight, None, *rest)
            out = out / self._on(factor, out, 1)
            out = out if layer.bias is None else out + self._on(layer.bias, out, 1)
        else:
            out = self._linear(x, self._round(layer.weight), layer.bias, *rest)
        normed: Tensor = norm(out)
        return normed

    def _folded(self, x: Tensor, norm: Any, *rest: Any) -> Tensor:
        layer, factor = self.layer, self._factor(norm)
        weight = self._round(layer.weight * self._on(factor, layer.weight, self._out))
        shift = -norm.running_mean if layer.bias is None else layer.bias - norm.running_mean
        bias = shift * factor if norm.bias is None else shift * factor + norm.bias
        return self._linear(x, weight, bias, *rest)

    def _factor(self, norm: Any) -> Tensor:
        factor = torch.rsqrt(norm.running_var + norm.eps)
        return factor if norm.weight is None else factor * norm.weight

    def _on(self, vector: Tensor, tensor: Tensor, axis: int) -> Tensor:
        """Return ``vector`` so that it lies along ``axis`` of ``tensor``."""
        return vector.reshape([-1 if i == axis else 1 for i in range(tensor.dim())])

    def _round(self, weight: Tensor) -> Tensor:
        return rounded_weight(weight, self._axis) if self._rounds else weight

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
        layer: Any = self.layer
        if self._transposed:
            size = rest[0] if rest else None
            dims = len(layer.kernel_size)
            padding = layer._output_padding(
                x, size, layer.stride, layer.padding, layer.kernel_size, dims, layer.dilation
            )
            return _TRANSPOSED[dims](
                x, weight, bias, layer.stride, layer.padding, padding, layer.groups, layer.dilation
            )
        if isinstance(layer, _ConvNd):
            out: Tensor = layer._conv_forward(x, weight, bias)
            return out
        return F.linear(x, weight, bias)


class TrainingEmbedding(nn.Module):
    """An embedding whose rows, as they are looked up, are rounded as uint8 will hold them."""

    def __init__(self, layer: nn.Embedding) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, indices: Tensor) -> Tensor:
        """Return the rounded rows."""
        rows = nn.Embedding.forward(self.layer, indices)  # its own `forward` may be a graph
        return rounded_rows(rows)


class TrainingBag(nn.Module):
    """An ``nn.EmbeddingBag`` over a rounded table; one with sparse gradients is left as it is."""

    def __init__(self, layer: nn.EmbeddingBag) -> None:
        super().__init__()
        self.layer = layer

    def forward(
        self, input: Tensor, offsets: Tensor | None = None, weights: Tensor | None = None
    ) -> Tensor:
        """Return the bags."""
        bag = self.layer
        return F.embedding_bag(
            input,
            bag.weight if bag.sparse else rounded_rows(bag.weight),
            offsets,
            bag.max_norm,
            bag.norm_type,
            bag.scale_grad_by_freq,
            bag.mode,
            bag.sparse,
            weights,
            bag.include_last_offset,
            bag.padding_idx,
        )


class Normed(nn.Module):
    """The user's BatchNorm and the ReLU that int8 computes with it."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Compute both."""
        return F.relu(self.norm(x))


class Read(nn.Module):
    """Gives a tensor that the user's module holds itself, as it is at the moment."""

    def __init__(self, owner: object, name: str) -> None:
        super().__init__()
        self._held, self._name = [owner], name

    def forward(self) -> Any:
        """Return it."""
        return getattr(self._held[0], self._name)


def training_layer(chain: list[nn.Module | None], *, rounds: bool) -> nn.Module:
    """Return what computes in training for layers that int8 computes as one.

    Args:
        chain: the user's own layers; ``None`` for a ReLU that is no layer.
        rounds: whether they are int8 in the end.
    """
    first, *others = chain
    assert first is not None
    norm = next((one for one in others if isinstance(one, _BatchNorm)), None)
    relu = len(others) > (norm is not None)
    if isinstance(first, nn.EmbeddingBag):
        return TrainingBag(first) if rounds else first
    if isinstance(first, nn.Embedding):
        return TrainingEmbedding(first) if rounds else first
    if isinstance(first, OP_LAYERS) and (rounds or others):
        return TrainingLayer(first, norm, relu=relu, rounds=rounds)
    return Normed(first) if others else first
