"""Functions that a weight goes into: what they are called with, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FUNCTIONS: dict[Any, str] = {
    F.linear: "linear",
    torch.conv1d: "conv1d",
    torch.conv2d: "conv2d",
    torch.conv3d: "conv3d",
}
"""Those that have an int8 form, with what an op of each is called."""
_BY_NAME: dict[str, Callable[..., Tensor]] = {name: func for func, name in FUNCTIONS.items()}
_LAYERS: dict[str, type[nn.Module]] = {
    "linear": nn.Linear,
    "conv1d": nn.Conv1d,
    "conv2d": nn.Conv2d,
    "conv3d": nn.Conv3d,
}
Arguments = tuple[Tensor, Tensor, Tensor | None, list[int], str]
"""Input, weight, bias; stride, padding, dilation and groups as one list; a padding by its name."""


@dataclass(frozen=True, eq=False, kw_only=True)
class WeightCall:
    """One call of one of ``FUNCTIONS``.

    Args:
        function: as in ``FUNCTIONS``.
        x: the input.
        weight: outputs first; so has ``bias`` the outputs.
        bias: may be left out.
        numbers: stride, padding and dilation, each with one number a spatial dimension, and groups.
        padding: ``same`` or ``valid``, else empty.
    """

    function: str
    x: Tensor
    weight: Tensor
    bias: Tensor | None
    numbers: tuple[int, ...] = ()
    padding: str = ""

    @classmethod
    def of(cls, function: str, args: Sequence[Any], kwargs: dict[str, Any]) -> WeightCall:
        """Return the call of ``function`` with what it is given."""
        x, weight, bias, numbers, padding = arguments(function, args, kwargs)
        return cls(
            function=function,
            x=x,
            weight=weight,
            bias=bias,
            numbers=tuple(map(int, numbers)),
            padding=padding,
        )

    @property
    def geometry(self) -> tuple[str, tuple[int, ...], str]:
        """What two calls of one op have in common, besides their weight."""
        return self.function, self.numbers, self.padding

    def computed(self) -> Tensor:
        """Return what the function gives, in floats."""
        return computed(self.function, self.x, self.weight, self.bias, self.numbers, self.padding)

    def as_layer(self) -> nn.Module:
        """Return a layer that computes the same; it shares weight and bias."""
        made = layer_like(self.geometry, self.weight.shape, bias=self.bias is not None)
        made.weight = nn.Parameter(self.weight.detach(), requires_grad=False)
        if self.bias is not None:
            made.bias = nn.Parameter(self.bias.detach(), requires_grad=False)
        return made.eval()


class _Undrawn(nn.Linear):
    """A linear layer that holds no values."""

    def reset_parameters(self) -> None:
        """Draw none: on the meta device that takes 120 µs, all else of a layer 40 (torch 2.13)."""


def layer_like(
    geometry: tuple[str, Sequence[int], str], shape: Sequence[int], *, bias: bool
) -> nn.Module:
    """Return a layer that does what calls of one ``geometry`` do; its tensors hold no values.

    Args:
        geometry: as ``WeightCall`` has it.
        shape: of the weight.
        bias: whether there is one.
    """
    function, numbers, padding = geometry
    outputs, inputs = shape[:2]
    if function == "linear":
        return _Undrawn(inputs, outputs, bias=bias, device="meta")
    stride, inside, dilation = _thirds(numbers)
    groups = numbers[-1]
    return _LAYERS[function](
        inputs * groups, outputs, tuple(shape[2:]), stride, padding or inside, dilation, groups,
        bias=bias, device="meta",
    )  # fmt: skip


def arguments(function: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Arguments:
    """Return what one of ``FUNCTIONS`` is called with, in one form."""
    if function == "linear":
        return _of_linear(*args, **kwargs)
    return _of_conv(int(function[4]), *args, **kwargs)


def computed(
    function: str,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    numbers: Sequence[int],
    padding: str,
) -> Tensor:
    """Return what one of ``FUNCTIONS`` gives."""
    if function == "linear":
        return F.linear(x, weight, bias)
    stride, inside, dilation = _thirds(numbers)
    return _BY_NAME[function](x, weight, bias, stride, padding or inside, dilation, numbers[-1])


def plain(function: str, numbers: Sequence[Any], padding: str) -> tuple[Any, tuple[Any, ...]]:
    """Return the function, and what it takes behind input, weight and bias."""
    if function == "linear":
        return F.linear, ()
    stride, inside, dilation = _thirds(numbers)
    return _BY_NAME[function], (stride, padding or inside, dilation, numbers[-1])


def _thirds(numbers: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    dims = len(numbers) // 3
    return (
        list(numbers[:dims]),
        list(numbers[dims : 2 * dims]),
        list(numbers[2 * dims : 3 * dims]),
    )


def _of_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Arguments:
    return input, weight, bias, [], ""


def _of_conv(
    dims: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Arguments:
    named = isinstance(padding, str)
    inside = [0] * dims if named else _each(padding, dims)
    numbers = [*_each(stride, dims), *inside, *_each(dilation, dims), groups]
    return input, weight, bias, numbers, padding if named else ""


def _each(value: Any, dims: int) -> list[int]:
    if isinstance(value, int):
        return [value] * dims
    return list(value) * dims if len(value) == 1 else list(value)
