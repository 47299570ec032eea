"""Which entries of a layer belong to its channels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

Dims = dict[str, int]
"""A dimension by the name of a tensor of the layer."""

ROOTS = (_ConvNd, nn.Linear, nn.Embedding)
"""Layers that channels are followed from."""
HEADS = ("num_heads", "n_heads", "n_head", "nheads", "nhead", "heads", "num_attention_heads")
"""Attributes by which people's attention tells how many heads it has."""
HEAD_WIDTHS = ("head_dim", "dim_head", "d_head", "head_size", "attention_head_size")
"""By which it tells how wide a head is."""
WIDTHS_OF_HEADS = ("all_head_size", "attn_dim", "inner_dim")
"""By which it tells how wide all of them are."""
WIDTHS = ("dim", "embed_dim", "hidden_dim", "hidden_size", "d_model", "width", "channels")
"""By which it may mean that, too, or what it reads."""
SIZES = frozenset(
    ("in_channels", "out_channels", "groups", "in_features", "out_features", "num_features")
    + ("num_parameters", "embedding_dim")
    + (HEADS + WIDTHS_OF_HEADS + WIDTHS)
)
"""All attributes that tell how many channels or heads a layer has."""


@dataclass(frozen=True)
class Side:
    """What channels are in a layer: of those that it gives, or of those that it reads.

    Args:
        zeroed: tensors that make the channel zero where they are zero.
        read: tensors whose entries multiply the channel.
        carried: other tensors with an entry for each channel.
        sizes: attributes with the number of channels.
    """

    zeroed: Dims
    read: Dims
    carried: Dims
    sizes: tuple[str, ...]


def given_by(layer: nn.Module) -> Side | str:
    """Return what the channels that ``layer`` gives are in it, or why they cannot be cut."""
    if isinstance(layer, _ConvNd):
        return _given_by_conv(layer)
    if isinstance(layer, nn.Linear):
        return Side({"weight": 0, "bias": 0}, {}, {}, ("out_features",))
    if isinstance(layer, nn.Embedding):
        return Side({"weight": 1}, {}, {}, ("embedding_dim",))
    if isinstance(layer, _NormBase):
        stats = {"running_mean": 0, "running_var": 0}
        return Side({"weight": 0, "bias": 0}, {}, stats, ("num_features",))
    if isinstance(layer, nn.PReLU):
        return _in_prelu(layer)
    if isinstance(layer, (nn.LayerNorm, nn.GroupNorm)):
        return "takes statistics over several channels"
    return f"is a `{type(layer).__name__}`, which is not cut"


def read_by(layer: nn.Module) -> Side | str:
    """Return what the channels that ``layer`` reads are in it, or why they cannot be cut."""
    if isinstance(layer, nn.Linear):
        return Side({}, {"weight": 1}, {}, ("in_features",))
    if isinstance(layer, _ConvNd) and not _is_depthwise(layer):
        return _read_by_conv(layer)
    return given_by(layer)


def is_grouped(conv: _ConvNd) -> bool:
    """Return whether a convolution has groups, and is no depthwise one for Torch-Pruning."""
    return 1 < conv.groups != conv.out_channels


def goes_by_groups(conv: _ConvNd) -> bool:
    """Return whether groups go as a whole, not a channel of each; the finer choice of the two."""
    return conv.groups >= min(conv.in_channels, conv.out_channels) // conv.groups


def _is_depthwise(conv: _ConvNd) -> bool:
    return 1 < conv.groups == conv.out_channels


def _given_by_conv(conv: _ConvNd) -> Side | str:
    if _is_depthwise(conv):
        if conv.in_channels != conv.out_channels:
            return f"is a convolution of {conv.groups} groups with one output each"
        sizes = ("in_channels", "out_channels", "groups")
        return Side({"weight": 0, "bias": 0}, {}, {}, sizes)
    if conv.groups > 1 and goes_by_groups(conv):
        weight = {} if conv.transposed else {"weight": 0}
        return Side({**weight, "bias": 0}, {}, {}, ("out_channels",))
    return Side({"weight": 1 if conv.transposed else 0, "bias": 0}, {}, {}, ("out_channels",))


def _read_by_conv(conv: _ConvNd) -> Side:
    if conv.groups > 1 and goes_by_groups(conv):
        # the inputs of a group are the rows of a transposed one, which give its outputs, too
        weight = {"weight": 0} if conv.transposed else {}
        return Side(weight, {}, {}, ("in_channels", "groups"))
    return Side({}, {"weight": 0 if conv.transposed else 1}, {}, ("in_channels",))


def _in_prelu(prelu: nn.PReLU) -> Side:
    if prelu.num_parameters == 1:
        return Side({}, {}, {}, ())
    return Side({}, {}, {"weight": 0}, ("num_parameters",))
