"""Kernels as functions that `torch.jit.trace` can record."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lpot_lightning.quantization.graph.tracing import paused

_ONEDNN = torch.ops.onednn
_X = "%x : Tensor, %x_scale : float, %x_zero : int"
_WEIGHT = "%weight : Tensor, %scales : Tensor, %zeros : Tensor"
_OTHER, _BIAS = "%other : Tensor", "%bias : Tensor?"
_PLACES = "%stride : int[], %padding : int[], %dilation : int[], %groups : int"
_OUT = "%scale : float, %zero : int, %dtype : int"
_ADDED = "%added_scale : float, %added_zero : int, %how : str, %alpha : float"
_LINEAR = _X, _WEIGHT, _BIAS, _OUT
_LINEAR_ADD = _X, _WEIGHT, _OTHER, _BIAS, _OUT, _ADDED
_CONV = _X, _WEIGHT, _BIAS, _PLACES, _OUT
_CONV_SUM = _X, _WEIGHT, _OTHER, _BIAS, _PLACES, _OUT, _ADDED
_GIVEN: dict[Any, tuple[str, ...]] = {
    _ONEDNN.qlinear_pointwise.default: _LINEAR,
    _ONEDNN.qlinear_pointwise.binary: _LINEAR_ADD,
    _ONEDNN.qconv_pointwise.default: _CONV,
    _ONEDNN.qconv2d_pointwise.binary: _CONV_SUM,
}
_PACK_LINEAR = "onednn::qlinear_prepack(%weight, %none)"
_PACK_CONV = (
    "onednn::qconv_prepack(%weight, %scales, %x_scale, %x_zero, %stride, %padding, %dilation,"
    " %groups, %shape)"
)


def integers(steps: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the last bytes of floats."""
    return steps.view(torch.int32).to(dtype)


@cache
def integers_op() -> tuple[Callable[..., Tensor], object]:
    """Return ``integers`` as an op, and what it lives in: a trace cannot look at bits (torch 2.13).

    Python computes it, so that a trace that holds it is for this process.
    """
    library: Any = torch.library.Library("lpot_lightning", "FRAGMENT")  # type: ignore[no-untyped-call]
    library.define("integers(Tensor steps, ScalarType dtype) -> Tensor")
    library.impl("integers", integers, "CompositeExplicitAutograd")
    return torch.ops.lpot_lightning.integers.default, library


def recorded(kernel: Any) -> Callable[..., Tensor]:
    """Return a function that calls ``kernel`` and can stand in a trace.

    It takes what the kernel takes, but the weight before it is packed: a file cannot hold a pack.
    Each call packs it; what is packed are constants, so that who loads the file can do it once.
    A tracer refuses lists of numbers that may be missing, as kernels take them for post ops
    (torch 2.13); a script function may pass one, and is made of its intermediate form, since the
    language has no word for that type.
    """

    def call(*given: Any) -> Tensor:
        *first, args, algorithm = given
        with paused():
            shape = list(given[0].shape)  # numbers: a tracer gives tensors for them
        found: Tensor = _function(kernel, len(args))(shape, *first, *args, algorithm)
        return found

    return call


@cache
def taking_packs(kernel: Any) -> Callable[..., Tensor]:
    """Return what takes what ``kernel`` takes, and can stand in a trace that is not saved."""

    def call(*given: Any) -> Tensor:
        *first, args, algorithm = given
        found: Tensor = packed_function(kernel, len(args))(*first, *args, algorithm)
        return found

    return call


@cache
def packed_function(kernel: Any, count: int) -> Callable[..., Tensor]:
    """Return the script function that takes a pack, for a post op that takes ``count`` numbers."""
    args = [f"%arg_{number}" for number in range(count)]
    given = ", ".join(_GIVEN[kernel]).replace("%weight", "%pack")
    names = ", ".join(one.partition(" ")[0] for one in given.split(", "))
    taken = "".join(f", {one} : float" for one in args)
    graph = torch._C.parse_ir(f"""
graph({given}, %post_op : str{taken}, %algorithm : str):
  %args : Scalar?[] = prim::ListConstruct({", ".join(args)})
  %found : Tensor = {kernel._schema.name}({names}, %post_op, %args, %algorithm)
  return (%found)
""")
    made: Callable[..., Tensor] = torch._C._create_function_from_graph("__torch__.kernel", graph)
    return made


@cache
def _function(kernel: Any, count: int) -> Callable[..., Tensor]:
    """Return the script function for a post op that takes ``count`` numbers."""
    name = f"__torch__.{kernel._schema.name.partition('::')[2]}_{kernel._overloadname}_{count}"
    graph = torch._C.parse_ir(_text(kernel, [f"%arg_{number}" for number in range(count)]))
    made: Callable[..., Tensor] = torch._C._create_function_from_graph(name, graph)
    return made


def _text(kernel: Any, args: list[str]) -> str:
    given = ", ".join(_GIVEN[kernel])
    names = [one.partition(" ")[0] for one in given.split(", ")]
    passed = ", ".join(names).replace("%weight", "%pack")
    taken = "".join(f", {one} : float" for one in args)
    return f"""
graph(%shape : int[], {given}, %post_op : str{taken}, %algorithm : str):
  %none : NoneType = prim::Constant()
  %pack : Tensor = {_PACK_CONV if _PLACES in given else _PACK_LINEAR}
  %args : Scalar?[] = prim::ListConstruct({", ".join(args)})
  %found : Tensor = {kernel._schema.name}({passed}, %post_op, %args, %algorithm)
  return (%found)
"""
