"""Int8 kernels held against arithmetic, before they are believed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.ao.nn.intrinsic import _FusedModule  # type: ignore[attr-defined]
from torch.func import functional_call
from torch.fx import GraphModule, Interpreter, Node
from torch.utils import _pytree as pytree

from lpot_lightning.errors import in_short
from lpot_lightning.quantization.fx.graph import GraphOps, kind_of
from lpot_lightning.quantization.fx.observe import EMBEDDINGS
from lpot_lightning.quantization.fx.part import Part
from lpot_lightning.quantization.fx.probe import bind

MAX_KERNEL_ERROR = 0.1
"""Relative error above which an int8 kernel is not believed; measured garbage lies above 1."""

_FLOAT: dict[str, Callable[..., Tensor]] = {
    "add": lambda a, b, *_: a + b,
    "add_relu": lambda a, b, *_: torch.relu(a + b),
    "mul": lambda a, b, *_: a * b,
    "mul_relu": lambda a, b, *_: torch.relu(a * b),
    "matmul": lambda a, b, *_: torch.matmul(a, b),
    "elu": F.elu,
    "hardswish": F.hardswish,
    "instance_norm": F.instance_norm,
    "layer_norm": F.layer_norm,
    "leaky_relu": F.leaky_relu,
}
"""What each function of ``torch.ops.quantized`` computes, by its name."""

_HELD = ("output_scale", "output_zero_point")
_LARGE_BATCHES = "its int8 kernel is wrong in batches of more samples than an image has pixels"


class NoReferenceError(Exception):
    """There is nothing to hold this kernel against, so it is not believed."""


class KernelFails(Exception):
    """A node of a converted graph does not run."""

    def __init__(self, node: Node, error: Exception) -> None:
        super().__init__(node.name)
        self.node = node
        self.reason = in_short(error).partition(". ")[0]


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
        self.known: dict[str, str] = {}

    def run_node(self, n: Node) -> Any:
        """Compute one node and, where it is an int8 kernel, compare."""
        try:
            value = super().run_node(n)
        except Exception as failure:
            raise KernelFails(n, failure) from failure
        if isinstance(value, Tensor) and value.is_quantized or self._is_embedding(n):
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            key = str(n.target) if n.op == "call_module" else kind_of(n, self._graph)
            error = self._error(n, value, args, kwargs)
            self.errors[key] = max(error, self.errors.get(key, 0.0))
            if self._normalizes_images(n, args):
                self.known[key] = _LARGE_BATCHES
        return value

    def _normalizes_images(self, node: Node, args: Any) -> bool:
        """Whether it is torch's instance norm of 4-d input, which no batch shown proves right.

        For channels last it is right in the first ``H * W`` samples and garbage from there on; 3-d
        and 5-d input take another way, which is right.
        """
        operand = args[0] if args else None
        if not isinstance(operand, Tensor) or not operand.is_quantized:
            return False
        if node.op == "call_module":  # shown one image, it may get a batch later
            return isinstance(self._float.get(str(node.target)), nn.InstanceNorm2d)
        return str(node.target) == "quantized.instance_norm" and operand.ndim == 4

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
        if str(node.target).startswith("quantized."):
            return _float_function(node)(*args, **_plain(kwargs))
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


def check_kernels(part: Part, converted: nn.Module, args: Any, kwargs: Any) -> dict[str, str]:
    """Return the ops that are int8 by the recipe and cannot be, each with the reason.

    Args:
        part: the prepared part.
        converted: the same part, with as many ops in int8 as possible.
        args: positional arguments of one calibration call; ``kwargs`` its keywords.
    """
    if not isinstance(converted, GraphModule):
        return {}
    run = KernelCheck(converted, part)
    try:
        with torch.no_grad():
            run.run(*bind(converted, args, kwargs))
    except KernelFails as error:
        why = f"has no int8 kernel for what is asked of it ({error.reason})"
        return dict.fromkeys(_ops_at(error.node, part.ops), why)
    return {op: _reason(_names(op, part.ops), run.errors, run.known) for op in part.ops.nodes}


def _reason(names: set[str], errors: Mapping[str, float], known: Mapping[str, str]) -> str:
    """Return why an op cannot be int8; empty if it can."""
    for name in names & set(known):
        return known[name]
    found = [errors[name] for name in names if name in errors]
    if not found:
        return "has no int8 kernel"
    if max(found) < MAX_KERNEL_ERROR:
        return ""
    if max(found) == float("inf"):
        return "has an int8 kernel that cannot be proved against fp32"
    return (
        f"its int8 kernel is wrong on this machine (relative error {max(found):.2g} against fp32)"
    )


def _names(op: str, ops: GraphOps) -> set[str]:
    """Return what a converted graph calls an op; a function's name stands for all of its kind."""
    nodes = [node for node in ops.nodes[op] if node.op == "call_module"]
    if nodes:
        return {str(node.target) for node in nodes}
    return {ops.kinds[op], f"{ops.kinds[op]}_relu"}


def _ops_at(node: Node, ops: GraphOps) -> set[str]:
    """Return the ops that have to give way where ``node`` of a converted graph fails."""
    key = str(node.target) if node.op == "call_module" else kind_of(node, node.graph.owning_module)  # type: ignore[arg-type]
    own = {op for op in ops.nodes if key in _names(op, ops)}
    near = ops.producers.get(node.name) or ops.consumers.get(node.name)
    return own or set(near or ops.nodes)


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


def _float_function(node: Node) -> Callable[..., Tensor]:
    found = _FLOAT.get(str(node.target).removeprefix("quantized."))
    if found is None:
        raise NoReferenceError
    return found


def _plain(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in kwargs.items() if key not in _HELD}


def _dequantized(value: Any) -> Any:
    return value.dequantize() if isinstance(value, Tensor) and value.is_quantized else value
