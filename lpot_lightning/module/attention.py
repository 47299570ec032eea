"""`nn.MultiheadAttention` as the functions that it is made of."""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def _never(_: object) -> bool:
    return False


def _in_projection_packed(
    q: Tensor, k: Tensor, v: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Sequence[Tensor]:
    """Return what torch's function of this name gives.

    Dynamo cannot capture that one while functions are watched: it calls ``Tensor.unflatten``, which
    is a ``super()`` of Python (torch 2.13).
    """
    width = q.size(-1)
    if k is v and q is k:
        return _parts(F.linear(q, weight, bias), 3)
    sizes = [width, width * 2] if k is v else [width] * 3
    weights = torch.split(weight, sizes)
    biases: list[Tensor | None] = (
        [None] * len(sizes) if bias is None else [*torch.split(bias, sizes)]
    )
    projected = [F.linear((q, k, v)[n], one, biases[n]) for n, one in enumerate(weights)]
    return [projected[0], *_parts(projected[1], 2)] if k is v else projected


def _parts(projected: Tensor, number: int) -> list[Tensor]:
    return [one.contiguous() for one in projected.chunk(number, -1)]


def _check_key_padding_mask(key_padding_mask: Tensor, src_len: int, bsz: int) -> None:
    """Check what torch's function of this name does.

    Dynamo cannot capture that one where a size may be any: its message holds the size (torch 2.13).
    """
    batch, length = key_padding_mask.shape
    if batch != bsz or length != src_len:
        raise AssertionError("`key_padding_mask` has other sizes than the keys")


def _opened() -> Callable[..., Any]:
    """Return torch's function with another answer to whether somebody watches functions.

    Torch's own hands itself to the watcher as a whole, and what it calls is not seen.
    """
    whole = F.multi_head_attention_forward
    seen = {
        "has_torch_function": _never,
        "_in_projection_packed": _in_projection_packed,
        "_check_key_padding_mask": _check_key_padding_mask,
    }
    names = {**whole.__globals__, **seen}
    made = types.FunctionType(whole.__code__, names, whole.__name__, whole.__defaults__)
    made.__kwdefaults__ = whole.__kwdefaults__
    return made


OPENED: Callable[..., Any] = _opened()
"""``F.multi_head_attention_forward``, of which the functions inside are seen."""
