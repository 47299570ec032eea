"""Transformers on the path that calls their layers."""

from __future__ import annotations

from torch import nn


def ways_around(module: nn.Module) -> dict[str, bool | int]:
    """Return the attributes, and their values, that keep ``module`` from its fused kernels.

    In eval mode ``nn.TransformerEncoderLayer`` reads the weights of its layers and calls none of
    them, and ``nn.TransformerEncoder`` gives it nested tensors (torch 2.13). Torch has a switch
    for the whole process; these are of one module.
    """
    if isinstance(module, nn.TransformerEncoder):
        return {"use_nested_tensor": False}
    if isinstance(module, nn.TransformerEncoderLayer):
        return {"activation_relu_or_gelu": 0}
    return {}
