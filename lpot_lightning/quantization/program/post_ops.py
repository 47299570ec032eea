"""Which activation functions of a graph are post ops of kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from lpot_lightning.quantization.kernels.post_op import PostOp
from lpot_lightning.quantization.program.draft import Unknown

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


def post_op_of(node: fx.Node, number: Callable[[Any], float]) -> PostOp | None:
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
    except Unknown:
        return None
    if node.target in (F.gelu, torch._C._nn.gelu):
        return PostOp("gelu", (), str(named.get("approximate", "none")))
    return None


_NAMES: dict[Any, tuple[str, ...]] = {
    F.hardtanh: ("input", "min_val", "max_val"),
    F.leaky_relu: ("input", "negative_slope"),
}
