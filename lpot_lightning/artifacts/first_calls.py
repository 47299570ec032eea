"""What the modules are called with that are called from outside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.module.calls import ModuleCalls, roots_of
from lpot_lightning.module.plain_tree import NotPlain, to_plain

MAX_BYTES = 1 << 20
"""Of the tensors of one call and its answer."""
_MOST_ROOTS = 8
_FEW, _SHARE, _LEAST = 8, 32, 16 << 10
"""A few samples tell more than one; they may have a 32nd of the model's bytes, or 16 KiB."""
_WORK = 1 << 45
"""What their bytes times those of the model may be: `load` computes them, and eight of a ViT of 24
million weights took longer than all the rest of it."""


@dataclass(frozen=True)
class FirstCall:
    """What a module that is called from outside was called with first.

    Args:
        path: of the module.
        described: its arguments as a tune config has them, the tensors by their numbers.
        tries: the tensors, in several lengths; which of them the module takes is found out.
        refused: why it cannot be stored; empty where it can.
    """

    path: str
    described: Mapping[str, Any] = field(default_factory=dict)
    tries: tuple[tuple[Tensor, ...], ...] = ()
    refused: str = ""


def first_calls(model: nn.Module, calls: Mapping[int, ModuleCalls]) -> tuple[FirstCall, ...]:
    """Return the first call of each module that is called from outside of all others.

    Args:
        model: that was shown data.
        calls: of its modules.
    """
    modules = dict(model.named_modules())
    size = max(1, bytes_of([*model.parameters(), *model.buffers()]))
    few = max(_LEAST, min(size // _SHARE, _WORK // size))
    roots = list(roots_of(model, calls))[:_MOST_ROOTS]
    return tuple(_first_call(path, calls[id(modules[path])], few) for path in roots)


def _first_call(path: str, seen: ModuleCalls, few: int) -> FirstCall:
    tensors: list[Tensor] = []

    def number_of(tensor: Tensor) -> int:
        tensors.append(_own(tensor))
        return len(tensors) - 1

    try:
        args = [to_plain(one, number_of) for one in seen.args]
        kwargs = {name: to_plain(one, number_of) for name, one in seen.kwargs.items()}
    except NotPlain as error:
        return FirstCall(path, refused=f"it is called with {error}")
    tries = tuple(_small(tensors, few))
    refused = "" if tries else "its call is too large"
    return FirstCall(path, {"args": args, "kwargs": kwargs}, tries, refused)


def _own(tensor: Tensor) -> Tensor:
    """Return a tensor that is nothing but one; a parameter that is watched looks like one."""
    kind = type(tensor)
    if kind is not Tensor and not isinstance(tensor, nn.Parameter):
        raise NotPlain(f"a `{kind.__name__}`")
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested:
        raise NotPlain("a tensor that is not dense")
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.detach().as_subclass(Tensor)


def _small(tensors: Sequence[Tensor], few: int) -> Iterator[tuple[Tensor, ...]]:
    """Yield copies of a call in the lengths that are small enough: a few samples, one, all."""
    lengths = {len(one) if one.dim() else -1 for one in tensors}
    (whole,) = lengths if len(lengths) == 1 else {-1}
    for length, most in ((_FEW, few), (1, MAX_BYTES), (None, MAX_BYTES)):
        if length is not None and length >= whole:
            continue
        cut = tensors if length is None else [one[:length] for one in tensors]
        if bytes_of(cut) <= most:
            yield tuple(one.cpu().clone() for one in cut)


def bytes_of(tensors: Sequence[Tensor]) -> int:
    """Return how much memory tensors take."""
    return sum(one.numel() * one.element_size() for one in tensors)
