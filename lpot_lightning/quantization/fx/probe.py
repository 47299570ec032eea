"""A prepared graph in floating point, with some ops as if they were int8."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.ao.quantization.observer import FixedQParamsObserver
from torch.func import functional_call
from torch.fx import Interpreter, Node
from torch.fx.node import map_arg
from torch.utils import _pytree as pytree

from lpot_lightning.quantization.fx.graph import observer_nodes
from lpot_lightning.quantization.fx.layer import prefix_of, rounded, unfused
from lpot_lightning.quantization.fx.observer import QParams
from lpot_lightning.quantization.fx.part import Part
from lpot_lightning.recipe import OpConfig


class ToggleRun(Interpreter):
    """Runs a prepared graph with single ops simulated, over and over for the same arguments.

    Args:
        part: settled.
        args: positional arguments of one call; ``kwargs`` its keywords.
    """

    def __init__(self, part: Part, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        super().__init__(part.graph, garbage_collect_values=False)
        self._part = part
        self._ops = part.ops
        self._observers = frozenset(observer_nodes(part.graph))
        self._int8: frozenset[str] = frozenset()
        self._qparams: Mapping[str, QParams] = {}
        self._weights: dict[str, dict[str, Tensor]] = {}
        self._factors: dict[Node, Tensor] = {}
        self.computed = 0
        """Nodes that were run, observers not counted."""
        inputs = bind(self.module, args, kwargs)
        self.clean = tensors_of(self.run(*inputs))
        """The outputs in floating point."""
        self._values = self._put_away()

    def with_int8(self, configs: Mapping[str, OpConfig], ops: Collection[str]) -> list[Tensor]:
        """Return the outputs with ``ops`` simulated; what they do not reach is not run again.

        Args:
            configs: of every op of the part, with settings and corrections; a boundary between two
                ops is equalized if both are int8 there, whether they are simulated or not.
            ops: of the part, int8 in ``configs``.
        """
        self._turn_on(configs, ops)
        again = self._reached(ops)
        known = {node: value for node, value in self._values.items() if node not in again}
        found = tensors_of(self.run(initial_env=known))
        self._put_away()
        return found

    def _turn_on(self, configs: Mapping[str, OpConfig], ops: Collection[str]) -> None:
        self._int8 = self._ops.int8_nodes(self._ops.nodes.keys() - set(ops))
        self._qparams = self._part.chosen_qparams(configs)
        self._weights = {}
        for op in ops:
            self._weights |= self._held(configs, op)
        self._factors = {
            node: boundary.factors_at(node)
            for boundary in self._part.corrections.in_force(configs)
            for node in (*boundary.inner, *boundary.outer)
        }

    def _put_away(self) -> dict[Node, Any]:
        """Forget what a run left behind, and return it."""
        values, self.env = self.env, {}
        self._weights, self._factors = {}, {}
        return values

    def _held(self, configs: Mapping[str, OpConfig], op: str) -> dict[str, dict[str, Tensor]]:
        """Return the tensors of the layer of ``op`` as int8 holds them, by its name."""
        targets = {str(n.target) for n in self._ops.nodes[op] if n.op == "call_module"}
        changed = self._part.corrections.changed(configs, op)
        if changed is not None:
            return dict.fromkeys(targets, changed.simulated())
        return {target: rounded_weight(self.fetch_attr(target)) for target in targets}

    def _reached(self, ops: Collection[str]) -> set[Node]:
        """Return the nodes whose values may be others with ``ops`` in int8, and the output."""
        own = {node for op in ops for node in self._ops.nodes[op]}
        found: set[Node] = set()
        for node in self.module.graph.nodes:  # type: ignore[union-attr]
            touched = node.name in self._int8 or node in own or node.op == "output"
            if touched or not found.isdisjoint(node.all_input_nodes):
                found.add(node)
        return found

    def run_node(self, n: Node) -> Any:
        """Compute one node, quantized and back where int8 comes out of it."""
        value = super().run_node(n)
        if n in self._observers:
            given = n.all_input_nodes[0].name in self._int8
            return self._fake_quantized(n, value) if given else value
        self.computed += n.op not in ("placeholder", "output")
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
        if str(target) in self._weights:
            return functional_call(module, self._weights[str(target)], args, kwargs)
        return module(*args, **kwargs)

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
        factors = self._factors.get(node)
        if factors is None:
            return torch.fake_quantize_per_tensor_affine(value, scale, zero_point, 0, 255)
        held = torch.fake_quantize_per_tensor_affine(value / factors, scale, zero_point, 0, 255)
        return held * factors


def rounded_weight(module: nn.Module) -> dict[str, Tensor]:
    """Return the weight of a layer as int8 would hold it, by the name it has in the module."""
    weight = getattr(unfused(module), "weight", None)
    held = rounded(module, weight) if isinstance(weight, Tensor) else None
    return {} if held is None else {f"{prefix_of(module)}weight": held}


def bind(graph: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> list[Any]:
    """Return the arguments in the order of the graph's placeholders."""
    bound = inspect.signature(graph.forward).bind(*args, **kwargs)
    bound.apply_defaults()
    return list(bound.arguments.values())


def tensors_of(value: Any) -> list[Tensor]:
    """Return the floating-point tensors of whatever a graph gave."""
    flat, _ = pytree.tree_flatten(value)
    return [item for item in flat if isinstance(item, Tensor) and item.is_floating_point()]
