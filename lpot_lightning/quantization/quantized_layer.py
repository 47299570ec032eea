"""Layers that are int8 by themselves: floats in, floats out, whatever Python does around them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Self, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lpot_lightning.module.calls import computes_otherwise
from lpot_lightning.quantization.kernels.arithmetic import ConvGeometry, Int8Weight
from lpot_lightning.quantization.kernels.bounds import WHOLE
from lpot_lightning.quantization.kernels.embedding import Int8Embedding
from lpot_lightning.quantization.kernels.grid import Grid
from lpot_lightning.quantization.kernels.layers import Int8Conv, Int8Layer, Int8Linear
from lpot_lightning.quantization.one_line import OneLine
from lpot_lightning.quantization.reasons import MAX_NORM

TABLES = (nn.Embedding, nn.EmbeddingBag)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
RANGELESS = (*TABLES, *RECURRENT)
"""Layers whose input needs no range that is known before."""
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_FORWARDS: dict[Callable[..., Any], str] = {
    nn.Linear.forward: "Linear",
    nn.Conv1d.forward: "Conv1d",
    nn.Conv2d.forward: "Conv2d",
    nn.Conv3d.forward: "Conv3d",
    nn.Embedding.forward: "Embedding",
    nn.EmbeddingBag.forward: "EmbeddingBag",
    nn.LSTM.forward: "LSTM",
    nn.GRU.forward: "GRU",
    nn.RNN.forward: "RNN",
    nn.LSTMCell.forward: "LSTMCell",
    nn.GRUCell.forward: "GRUCell",
    nn.RNNCell.forward: "RNNCell",
}
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
CONV1D = "Conv1D"
"""A linear layer of transformers whose weight has its inputs first."""
_NAMED = {("transformers.pytorch_utils", "Conv1D.forward"): CONV1D}


def kind_of(layer: nn.Module) -> str | None:
    """Return what kind of layer computes here, ``None`` for one that has no int8 form.

    A subclass is of the kind of its parent where it has its ``forward``, whatever else it adds: a
    weight that is computed, as by ``torch.nn.utils.parametrizations``, is taken as it is.
    """
    return None if computes_otherwise(layer) else kind_of_class(type(layer))


def kind_of_class(kind: type[nn.Module]) -> str | None:
    """Return what kind of layer the ``forward`` of a class is, whoever computes for its objects."""
    forward = inspect.getattr_static(kind, "forward", None)  # TorchScript's cannot be asked for
    own = getattr(forward, "__module__", ""), getattr(forward, "__qualname__", "")
    return _FORWARDS.get(forward) or _NAMED.get(own)


def weight_of(layer: nn.Module) -> Tensor:
    """Return the weight of a layer, outputs first."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    return weight.t() if kind_of_class(type(layer)) == CONV1D else weight


def channels_of(layer: nn.Module) -> int:
    """Return how many channels a layer with a weight reads."""
    return weight_of(layer).shape[1] * int(getattr(layer, "groups", 1))


def unquantizable(layer: nn.Module) -> str | None:
    """Return why a layer of a known kind has no int8 form, ``None`` if it has one."""
    if isinstance(layer, TABLES):
        if layer.max_norm is not None:
            return MAX_NORM
        if layer.embedding_dim == 0:
            return "it has no columns"
    weights = [getattr(layer, name) for name in weight_names(layer) if "weight" in name]
    return next((why for one in weights if (why := _unroundable(one))), None)


def _unroundable(weight: object) -> str | None:
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        return "its weight is not of floats"
    if weight.numel() == 0:
        return "its weight is empty"
    if not bool(weight.isfinite().all()):
        return "its weight is not finite"
    return None


def weight_names(layer: nn.Module) -> tuple[str, ...]:
    """Return the names of what an int8 form of a layer takes the place of, if it is there."""
    if not isinstance(layer, RECURRENT):
        return "weight", "bias"
    return tuple(name for name in _of_recurrent(layer) if isinstance(getattr(layer, name), Tensor))


def _of_recurrent(layer: Any) -> list[str]:
    if isinstance(layer, nn.RNNBase):
        return list(layer._flat_weights_names)
    return ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]


class QuantizedLayer(OneLine):
    """Computes for a layer: quantizes its input, calls an int8 kernel, gives floats.

    The output has the type of the input, of whatever float type that is.

    Args:
        kernel: gives float32.
        border: how many values are put around the input first, as ``F.pad`` takes it.
        mode: with what, of ``F.pad``.
        factors: what each channel of the input is divided by first, as ``Divide`` takes them; the
            weight of the kernel is that of the layer times them.
    """

    factors: Tensor | None

    def __init__(
        self,
        kernel: Int8Layer,
        border: tuple[int, ...] = (),
        mode: str = "constant",
        factors: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.border, self.mode = border, mode
        self.register_buffer("factors", factors)

    def forward(self, input: Tensor) -> Tensor:
        """Return the layer's output."""
        x = F.pad(input, self.border, self.mode) if self.border else input
        grid, factors = self.kernel.x, self.factors
        integers = grid.quantize(x) if factors is None else grid.quantize_divided(x, factors)
        found: Tensor = self.kernel.forward(integers)  # no hook of a user
        return (found if _is_channels_last(input) else found.contiguous()).to(input.dtype)

    def _told(self) -> str:
        x = self.kernel.x
        equalized = "" if self.factors is None else ", equalized"
        return f"scale={x.scale:.4g}, zero_point={x.zero_point}{equalized}"

    def kernel_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape that the kernel gets for an input of ``shape``, with a batch."""
        sizes = [1, *shape] if len(shape) < self.kernel.weight.dim() else [*shape]
        for number in range(len(self.border) // 2):
            sizes[-1 - number] += self.border[2 * number] + self.border[2 * number + 1]
        return tuple(sizes)


def _is_channels_last(tensor: Tensor) -> bool:
    """Whether a convolution of ``tensor`` gives the same layout in fp32; else it is contiguous."""
    layout = _CHANNELS_LAST.get(tensor.dim())
    return (
        layout is not None
        and not tensor.is_contiguous()
        and tensor.is_contiguous(memory_format=layout)
    )


class _Table(OneLine):
    """Gives floats of the type that the table of the model would have.

    Args:
        dtype: that it has now.
    """

    kernel: Int8Embedding

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def _told(self) -> str:
        size = self.kernel.group_size
        return f"scales={'one a row' if size is None else f'one a group of {size}'}"

    def _apply(self, fn: Callable[..., Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.dtype = fn(torch.empty(0, dtype=self.dtype)).dtype
        return self


class QuantizedEmbedding(_Table):
    """Computes for an embedding: takes rows of 8 bits and gives them as floats.

    Args:
        kernel: holds the rows.
        dtype: of what it gives.
    """

    def __init__(self, kernel: Int8Embedding, dtype: torch.dtype) -> None:
        super().__init__(dtype)
        self.kernel = kernel

    def forward(self, input: Tensor) -> Tensor:
        """Return the rows of ids in any shape and layout."""
        found: Tensor = self.kernel.forward(input)
        return found.to(self.dtype)


class QuantizedEmbeddingBag(_Table):
    """Computes for an embedding bag: takes rows of 8 bits and puts them together as floats.

    Args:
        kernel: holds the rows.
        layer: whose settings these are; it is not held.
    """

    def __init__(self, kernel: Int8Embedding, layer: nn.EmbeddingBag) -> None:
        super().__init__(layer.weight.dtype)
        self.kernel = kernel
        self.mode, self.padding_idx = layer.mode, layer.padding_idx
        self.include_last_offset = layer.include_last_offset

    def forward(
        self,
        input: Tensor,
        offsets: Tensor | None = None,
        per_sample_weights: Tensor | None = None,
    ) -> Tensor:
        """Return one row a bag, as ``nn.EmbeddingBag`` does."""
        rows: Tensor = self.kernel.forward(input.reshape(-1)).to(self.dtype)
        return bags_of(self, rows, input, offsets, per_sample_weights)


def bags_of(
    bag: Any,
    rows: Tensor,
    input: Tensor,
    offsets: Tensor | None,
    per_sample_weights: Tensor | None,
) -> Tensor:
    """Return what an ``nn.EmbeddingBag`` makes of the rows that it looks up.

    Args:
        bag: has the settings.
        rows: one for each id of ``input``.
        input: as the bag got it; so are the others.
    """
    places = torch.arange(1, rows.shape[0] + 1, device=rows.device).view(input.shape)
    if bag.padding_idx is not None:  # its places stand for a row before all others
        places = places.where(input != bag.padding_idx, 0)
    rows = torch.cat([rows.new_zeros(1, rows.shape[1]), rows])
    return F.embedding_bag(
        places,
        rows,
        offsets if offsets is None else offsets.to(places.dtype),
        mode=bag.mode,
        per_sample_weights=per_sample_weights,
        include_last_offset=bag.include_last_offset,
        padding_idx=None if bag.padding_idx is None else 0,
    )


Int8Form: TypeAlias = QuantizedLayer | QuantizedEmbedding | QuantizedEmbeddingBag
"""What computes in int8 for one layer."""


def quantized(
    layer: nn.Module,
    x: Grid | None,
    weight: Int8Weight | None = None,
    factors: Tensor | None = None,
    group_size: int | None = None,
    pair: int = WHOLE.pair,
) -> Int8Form:
    """Return what computes in int8 for ``layer``, of a kind that ``kind_of`` knows.

    Args:
        layer: with finite weights; it is left as it is.
        x: the grid of its input, divided by ``factors``; ``None`` for an embedding, whose input
            are ids.
        weight: rounded; without it, it is that of ``layer`` as it is.
        factors: one a channel of the input, that ``weight`` is multiplied by.
        group_size: of an embedding whose rows are rounded in groups.
        pair: what two integers of an output may come to, where ``weight`` is not given.

    Example::

        int8 = quantized(nn.Linear(8, 4), Grid.over(-1.0, 1.0))
        int8(torch.randn(2, 8))
    """
    if isinstance(layer, nn.Embedding):
        return QuantizedEmbedding(Int8Embedding.of(layer.weight, group_size), layer.weight.dtype)
    if isinstance(layer, nn.EmbeddingBag):
        return QuantizedEmbeddingBag(Int8Embedding.of(layer.weight, group_size), layer)
    assert x is not None
    if weight is None:
        weight = Int8Weight.of(weight_of(layer), layer.bias, pair=pair)  # type: ignore[arg-type]
    if factors is not None:
        factors = factors.float().view(-1, *[1] * (weight.values.dim() - 2))
    if isinstance(layer, CONVOLUTIONS):
        return _quantized_conv(layer, weight, x, factors)
    return QuantizedLayer(Int8Linear(weight, x), factors=factors)


def unfilled(
    layer: nn.Module,
    x: Grid | None,
    factors: Tensor | None = None,
    group_size: int | None = None,
) -> Int8Form:
    """Return what ``quantized`` does, for tensors of a file: those that it has hold no values.

    Args:
        layer: whose shapes these are.
        x: the grid of its input.
        factors: one a channel of the input.
        group_size: of an embedding whose rows are rounded in groups.
    """
    if isinstance(layer, nn.Embedding):
        return QuantizedEmbedding(Int8Embedding.like(layer.weight, group_size), layer.weight.dtype)
    if isinstance(layer, nn.EmbeddingBag):
        return QuantizedEmbeddingBag(Int8Embedding.like(layer.weight, group_size), layer)
    weight = Int8Weight.like(weight_of(layer), bias=layer.bias is not None)
    return quantized(layer, x, weight, factors)


def with_trained_grid(form: Int8Form) -> Int8Form:
    """Return ``form``, which programs are to let read the grid that its weight was trained with."""
    if isinstance(form, QuantizedLayer):
        form.kernel.is_trained = True
    return form


def _quantized_conv(
    layer: Any, weight: Int8Weight, x: Grid, factors: Tensor | None
) -> QuantizedLayer:
    border = tuple(layer._reversed_padding_repeated_twice)
    even = border[0::2] == border[1::2]  # "same" may put more on one side
    inside = layer.padding_mode == "zeros" and even
    padding = tuple(reversed(border[0::2])) if inside else (0,) * len(layer.stride)
    geometry = ConvGeometry(layer.stride, padding, layer.dilation, layer.groups)
    kernel = Int8Conv(weight, x, geometry)
    if inside:
        return QuantizedLayer(kernel, factors=factors)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return QuantizedLayer(kernel, border, mode, factors)
