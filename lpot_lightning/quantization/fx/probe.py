"""What int8 does to single ops: simulated for ranking, and kernels held against arithmetic."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.ao.nn.intrinsic import _FusedModule  # type: ignore[attr-defined]
from torch.ao.quantization.observer import FixedQParamsObserver
from torch.func import functional_call
from torch.fx import GraphModule, Interpreter, Node
from torch.utils import _pytree as pytree

from lpot_lightning.quantization.fx.graph import GraphOps, kind_of, observer_nodes
from lpot_lightning.quantization.fx.part import EMBEDDINGS, Part
from lpot_lightning.recipe import OpConfig

MAX_KERNEL_ERROR = 0.1
"""Relative error above which an int8 kernel is not believed; measured garbage lies above 1."""

_FLOAT: dict[Any, Callable[..., Tensor]] = {
    torch.ops.quantized.add: lambda a, b, *_: a + b,
    torch.ops.quantized.add_relu: lambda a, b, *_: torch.relu(a + b),
    torch.ops.quantized.mul: lambda a, b, *_: a * b,
    torch.ops.quantized.mul_relu: lambda a, b, *_: torch.relu(a * b),
    torch.ops.quantized.matmul: lambda a, b, *_: torch.matmul(a, b),
    torch.ops.quantized.hardswish: lambda x, *_, **__: F.hardswish(x),
    torch.ops.quantized.layer_norm: lambda x, *rest, **__: F.layer_norm(x, *rest[:4]),
    torch.ops.quantized.leaky_relu: lambda x, slope, *_, **__: F.leaky_relu(x, slope),
}


class ToggleRun(Interpreter):
    """Runs a prepared graph in floating point, with single ops as if they were int8."""

    def __init__(self, part: Part, configs: Mapping[str, OpConfig]) -> None:
        super().__init__(part.graph, garbage_collect_values=False)
        self._qparams = part.chosen_qparams(configs)
        self._ops = part.ops
        self._on: frozenset[str] = frozenset()
        self._names: frozenset[str] = frozenset()
        self._observers: dict[str, set[str]] = {
            node.name: part.ops.touching(node) for node in observer_nodes(part.graph)
        }
        self._order = list(part.graph.graph.nodes)
        self.clean: dict[Node, Any] = {}

    def in_fp32(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
        """Run in floating point, remember every value, and return the outputs."""
        self._turn_on(())
        self._inputs = _bind(self.module, args, kwargs)
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
        self._names = frozenset(node.name for op in self._on for node in self._ops.nodes[op])

    def _touched(self, node: Node) -> bool:
        return node.name in self._names or bool(self._observers.get(node.name, set()) & self._on)

    def run_node(self, n: Node) -> Any:
        """Compute one node, quantized and back where it is turned on."""
        value = super().run_node(n)
        if n.name in self._observers and self._observers[n.name] & self._on:
            return self._fake_quantized(n, value)
        return value

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
    weight = getattr(inner, "weight", None)
    qconfig = getattr(module, "qconfig", None)
    if not isinstance(weight, Tensor) or qconfig is None:
        return {}
    observer = qconfig.weight()
    if observer.dtype not in (torch.qint8, torch.quint8):
        return {}
    observer(weight)
    scale, zero_point = observer.calculate_qparams()
    if scale.numel() == 1:
        held = torch.quantize_per_tensor(weight, float(scale), int(zero_point), observer.dtype)
    else:
        held = torch.quantize_per_channel(
            weight, scale, zero_point, observer.ch_axis, observer.dtype
        )
    return {f"{prefix}weight": held.dequantize()}


class NoReferenceError(Exception):
    """There is nothing to hold this kernel against, so it is not believed."""


class KernelCheck(Interpreter):
    """Runs a converted graph and holds every int8 kernel against fp32 on the same operands.

    The operands and the weights are the quantized ones and the result is quantized alike, so
    what differs is the kernel alone: rounding gives thousandths, a broken kernel gives more
    than the whole signal.
    """

    def __init__(self, converted: GraphModule, part: Part) -> None:
        super().__init__(converted)
        self._graph = converted
        self._float = dict(part.graph.named_modules())
        self.errors: dict[str, float] = {}

    def run_node(self, n: Node) -> Any:
        """Compute one node and, where it is an int8 kernel, compare."""
        value = super().run_node(n)
        if isinstance(value, Tensor) and value.is_quantized or self._is_embedding(n):
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            key = str(n.target) if n.op == "call_module" else kind_of(n, self._graph)
            error = self._error(n, value, args, kwargs)
            self.errors[key] = max(error, self.errors.get(key, 0.0))
        return value

    def _error(self, node: Node, value: Tensor, args: Any, kwargs: Any) -> float:
        try:
            expected = self._reference(node, args, kwargs)
        except NoReferenceError:
            return float("inf")
        return 0.0 if expected is None else _relative_error(value, expected)

    def _is_embedding(self, node: Node) -> bool:
        if node.op != "call_module":
            return False
        return isinstance(self._float.get(str(node.target)), EMBEDDINGS)

    def _reference(self, node: Node, args: Any, kwargs: Any) -> Tensor | None:
        flat, _ = pytree.tree_flatten((args, kwargs))
        reads_int8 = any(isinstance(item, Tensor) and item.is_quantized for item in flat)
        if not reads_int8 and not self._is_embedding(node):
            return None  # a quantize node: where int8 begins
        args, kwargs = pytree.tree_map(_dequantized, (args, kwargs))
        if node.op == "call_module":
            return self._module_reference(str(node.target), args, kwargs)
        if node.target in _FLOAT:
            return _FLOAT[node.target](*args, **kwargs)
        if str(node.target).startswith("quantized."):
            raise NoReferenceError
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)  # type: ignore[no-any-return]
        return node.target(*args, **kwargs)  # type: ignore[operator,no-any-return]

    def _module_reference(self, target: str, args: Any, kwargs: Any) -> Tensor | None:
        held, plain = self.module.get_submodule(target), self._float.get(target)
        if plain is None:
            return None
        weights: dict[str, Tensor] = {}
        weight = getattr(held, "weight", None)
        if callable(weight):
            prefix = "0." if isinstance(plain, _FusedModule) else ""
            weights[f"{prefix}weight"] = weight().dequantize()
        return functional_call(plain, weights, args, kwargs)  # type: ignore[no-any-return]


def check_kernels(part: Part, converted: nn.Module, args: Any, kwargs: Any) -> dict[str, float]:
    """Return the ops whose int8 kernel is wrong, with the relative error of each.

    Args:
        part: the prepared part.
        converted: the same part with every op in int8.
        args: positional arguments of one calibration call; ``kwargs`` its keywords.
    """
    if not isinstance(converted, GraphModule):
        return {}
    run = KernelCheck(converted, part)
    with torch.no_grad():
        run.run(*_bind(converted, args, kwargs))
    return _by_op(part.ops, run.errors)


def _by_op(ops: GraphOps, errors: Mapping[str, float]) -> dict[str, float]:
    """Say which op a kernel belongs to; a function's name stands for all ops of its kind."""
    found = {}
    for op, nodes in ops.nodes.items():
        names = {str(node.target) if node.op == "call_module" else ops.kinds[op] for node in nodes}
        names |= {f"{ops.kinds[op]}_relu"}
        worst = max((errors[name] for name in names if name in errors), default=0.0)
        if not worst < MAX_KERNEL_ERROR:
            found[op] = worst
    return found


def _relative_error(value: Tensor, expected: Tensor) -> float:
    """Return ``|int8 - fp32| / |fp32|`` in the L2 norm, both held alike."""
    if value.is_quantized:
        expected = torch.quantize_per_tensor(
            expected, value.q_scale(), value.q_zero_point(), value.dtype
        ).dequantize()
        value = value.dequantize()
    scale = float(expected.norm())
    difference = float((value - expected).norm())
    return difference / scale if scale else (0.0 if difference == 0 else float("inf"))


def _dequantized(value: Any) -> Any:
    return value.dequantize() if isinstance(value, Tensor) and value.is_quantized else value


def _bind(graph: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> list[Any]:
    """Return the arguments in the order of the graph's placeholders."""
    bound = inspect.signature(graph.forward).bind(*args, **kwargs)
    bound.apply_defaults()
    return list(bound.arguments.values())


def _tensors(value: Any) -> list[Tensor]:
    flat, _ = pytree.tree_flatten(value)
    return [item for item in flat if isinstance(item, Tensor) and item.is_floating_point()]
