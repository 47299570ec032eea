"""What torch does not know of two of its own ops: the shapes that they give."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def register() -> None:
    """Tell torch the shapes of oneDNN's packed weights, where it does not know them itself.

    Torch 2.13 has no fakes for them, without which a program that holds them is neither exported
    nor loaded.
    """
    for name, fake in (("qlinear_prepack", _linear), ("qconv_prepack", _conv)):
        if not _is_known(f"onednn::{name}"):
            torch.library.register_fake(f"onednn::{name}", fake)


def _is_known(name: str) -> bool:
    """Whether there is a fake, by us or by whoever came first."""
    from torch._library.simple_registry import singleton

    meta = torch._C._dispatch_has_kernel_for_dispatch_key
    return singleton.find(name).fake_impl.kernel is not None or meta(name, "Meta")


def _linear(weight: Tensor, _: Any) -> Tensor:
    return weight.new_empty(weight.shape[1], weight.shape[0])


def _conv(weight: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(weight)
