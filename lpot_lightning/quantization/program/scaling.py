"""Channels that are divided for a layer: sooner, where the kernel before it can do that."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from lpot_lightning.quantization.kernels.layers import Int8Layer
from lpot_lightning.quantization.kernels.moving import Divide
from lpot_lightning.quantization.program.draft import Drafted, kernel_at, only_user
from lpot_lightning.quantization.program.moves import POOLS

_HOMOGENEOUS = {F.relu, torch.relu, "relu", "relu_", F.leaky_relu}


def divide_sooner(draft: Drafted) -> None:
    """Let channels be divided right behind the kernel that gives them, if it gives them to nobody
    else: its scales then divide them.

    What lies between has to give ``f(x) / s`` for ``x / s``, channel by channel: ReLU with or
    without a leak, and max pooling. It is the condition of Nagel et al., 2019 (arXiv:1906.04721),
    section 4.1; ReLU6, SiLU or GELU do not meet it.
    """
    for node in draft.steps(Divide):
        place = _place(draft, node)
        if place is not None and place is not node.args[0]:
            _move(node, place)


def fits(divide: Divide, layer: Int8Layer) -> bool:
    """Whether the channels that ``divide`` divides are the outputs of ``layer``."""
    alike = divide.factors.dim() == layer.weight.dim() - 1
    return alike and divide.factors.numel() == len(layer.scales)


def _place(draft: Drafted, node: fx.Node) -> fx.Node | None:
    """Return behind what the channels can be divided as well, ``None`` if behind no kernel."""
    divide, reader = draft.step(node), node
    source: Any = node.args[0]
    assert isinstance(divide, Divide)
    while (
        isinstance(source, fx.Node) and only_user(source) is reader and source not in draft.written
    ):
        if _gives(draft, source, divide):
            return source
        if not _keeps(source, divide):
            return None
        source, reader = source.args[0], source
    return None


def _gives(draft: Drafted, node: fx.Node, divide: Divide) -> bool:
    """Whether ``node`` is a kernel that can divide what it gives, or the norm of one."""
    if node.target is F.batch_norm and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    kernel = kernel_at(draft, node)
    return kernel is not None and fits(divide, kernel)


def _keeps(node: fx.Node, divide: Divide) -> bool:
    """Whether factors of channels may go through ``node``."""
    if node.target in POOLS:
        own = POOLS[node.target] == divide.factors.dim() - 1
        return own and not node.kwargs.get("return_indices") and len(node.args) < 7
    return node.target in _HOMOGENEOUS


def _move(node: fx.Node, place: fx.Node) -> None:
    before, reader = node.args[0], only_user(place)
    assert isinstance(before, fx.Node)
    assert reader is not None
    node.replace_all_uses_with(before)
    reader.replace_input_with(place, node)
    node.replace_input_with(before, place)
    place.append(node)
    node.meta |= {"example_value": place.meta.get("example_value")}
