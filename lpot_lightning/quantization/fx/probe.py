"""How much each op hurts alone in int8, simulated."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.ao.nn.intrinsic import _FusedModule  # type: ignore[attr-defined]
from torch.ao.quantization.observer import FixedQParamsObserver
from torch.func import functional_call
from torch.fx import Interpreter, Node
from torch.fx.node import map_arg
from torch.utils import _pytree as pytree

from lpot_lightning.quantization.fx.capability import OP_LAYERS
from lpot_lightning.quantization.fx.graph import observer_nodes
from lpot_lightning.quantization.fx.part import Part
from lpot_lightning.recipe import OpConfig


class ToggleRun(Interpreter):
    """Runs a prepared graph in floating point, with single ops as if they were int8."""

    def __init__(self, part: Part, configs: Mapping[str, OpConfig]) -> None:
        super().__init__(part.graph, garbage_collect_values=False)
        self._qparams = part.chosen_qparams(configs)
        self._ops = part.ops
        self._observers = frozenset(observer_nodes(part.graph))
        self._on: frozenset[str] = frozenset()
        self._int8: frozenset[str] = frozenset()
        self._order = list(part.graph.graph.nodes)
        self.clean: dict[Node, Any] = {}

    def in_fp32(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
        """Run in floating point, remember every value, and return the outputs."""
        self._turn_on(())
        self._inputs = bind(self.module, args, kwargs)
        out = self.run(*self._inputs)
        self.clean = dict(self.env)
        return _tensors(out)

    def with_int8(self, ops: Iterable[str]) -> list[Tensor]:
        """Return the outputs with ``ops`` simulated; what lies before them is not run again."""
        self._turn_on(ops)
        first = next(i for i, node in enumerate(self._order) if self._touched(node))
        known = {
            node: self.clean[node]
            for i, node in enumerate(self._order)
            if i < first or node.op == "placeholder"
        }
        return _tensors(self.run(*self._inputs, initial_env=known))

    def _turn_on(self, ops: Iterable[str]) -> None:
        self._on = frozenset(ops)
        self._int8 = self._ops.int8_nodes(self._ops.nodes.keys() - self._on)

    def _touched(self, node: Node) -> bool:
        return node.name in self._int8 or any(node in self._ops.nodes[op] for op in self._on)

    def run_node(self, n: Node) -> Any:
        """Compute one node, quantized and back where int8 comes out of it."""
        value = super().run_node(n)
        if n in self._observers and n.all_input_nodes[0].name in self._int8:
            return self._fake_quantized(n, value)
        return value

    def map_nodes_to_values(self, args: Any, n: Node) -> Any:
        """Look up what ``n`` reads, quantized and back for an int8 node alone."""

        def read(node: Node) -> Any:
            value = self.env[node]
            quantized = n.name in self._int8 and node in self._observers
            return self._fake_quantized(node, value) if quantized else value

        return map_arg(args, read)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a layer, with its weight rounded where it is turned on."""
        module = self.fetch_attr(target)
        if str(target) in self._weights_on():
            return functional_call(module, rounded_weights(module), args, kwargs)
        return module(*args, **kwargs)

    def _weights_on(self) -> set[str]:
        nodes = (node for op in self._on for node in self._ops.nodes[op])
        return {str(node.target) for node in nodes if node.op == "call_module"}

    def _fake_quantized(self, node: Node, value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        observer = self.fetch_attr(str(node.target))
        if str(node.target) in self._qparams:
            scale, zero_point = self._qparams[str(node.target)]
        elif isinstance(observer, FixedQParamsObserver):
            scale, zero_point = float(observer.scale), int(observer.zero_point)
        else:
            return value
        return torch.fake_quantize_per_tensor_affine(value, scale, zero_point, 0, 255)


def rounded_weights(module: nn.Module) -> dict[str, Tensor]:
    """Return the weight of a layer as int8 would hold it, by the name it has in the module."""
    prefix = "0." if isinstance(module, _FusedModule) else ""
    inner = module[0] if isinstance(module, _FusedModule) else module
    qconfig = getattr(module, "qconfig", None)
    if not isinstance(inner, OP_LAYERS) or qconfig is None:
        return {}
    observer = qconfig.weight()
    if observer.dtype not in (torch.qint8, torch.quint8):
        return {}
    weight = inner.weight
    observer(weight)
    scale, zero_point = observer.calculate_qparams()
    if scale.numel() == 1:
        held = torch.quantize_per_tensor(weight, float(scale), int(zero_point), observer.dtype)
    else:
        held = torch.quantize_per_channel(
            weight, scale, zero_point, observer.ch_axis, observer.dtype
        )
    return {f"{prefix}weight": held.dequantize()}


def bind(graph: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> list[Any]:
    """Return the arguments in the order of the graph's placeholders."""
    bound = inspect.signature(graph.forward).bind(*args, **kwargs)
    bound.apply_defaults()
    return list(bound.arguments.values())


def _tensors(value: Any) -> list[Tensor]:
    flat, _ = pytree.tree_flatten(value)
    return [item for item in flat if isinstance(item, Tensor) and item.is_floating_point()]
