"""What the two ways by PT2E have in common: an exported graph, compiled by `torch.compile`."""

from __future__ import annotations

import operator
from typing import Any

import torch
from making import Task
from torch import Tensor, nn

BATCH = 8
"""It is compiled for one size of a batch at a time, and judged in batches of this one."""
DEQUANTIZE = "dequantize_per_"
LAYERS = (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default)


def exported(task: Task) -> Any:
    """Return the net as a graph, for batches of any size."""
    sample, batch = task.calibration[:BATCH], torch.export.Dim("batch", min=1, max=1024)
    return torch.export.export(task.net, (sample,), dynamic_shapes=({0: batch},)).module()


def compiled(net: nn.Module) -> Any:
    """Return what is compiled for each shape when it is first called."""
    import torch._inductor.config as inductor

    inductor.freezing = True  # else int8 kernels are not taken
    return torch.compile(net, dynamic=False)


def warm_up() -> None:
    """Let the compiler prepare what is the same for all nets: that is not what is compared."""
    compiled(nn.ReLU())(torch.ones(3))


def layers_in_int8(graph: torch.fx.Graph) -> int:
    """Count convolutions and linear layers whose input and weight are dequantized."""
    return sum(
        all(map(is_dequantized, node.args[:2])) for node in graph.nodes if node.target in LAYERS
    )


def is_dequantized(node: Any) -> bool:
    """Whether what a node gives was in 8 bits."""
    return DEQUANTIZE in str(node.target)


def graph_mib(graph: torch.fx.GraphModule) -> float:
    """Return how large the tensors are that a graph computes with; it may hold others yet."""
    names = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"}
    found = [operator.attrgetter(name)(graph) for name in names]
    tensors = [one for one in found if isinstance(one, Tensor)]
    return sum(one.numel() * one.element_size() for one in tensors) / 2**20


def calibrate(prepared: Any, images: Tensor) -> None:
    """Let observers see the images."""
    for part in images.split(10):
        prepared(part)
