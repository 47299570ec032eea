"""Weights that are kept as bfloat16, and computed with as such."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from lpot_lightning.quantization.kernels.own_types import OwnTypes

BF16 = torch.bfloat16


class Bf16Weight(OwnTypes):
    """A weight of 16 bits: half of the size in files.

    Args:
        weight: of bfloat16, outputs first; so is ``bias``.
        bias: may be left out.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None) -> Self:
        """Return a weight and a bias of any type of floats, rounded."""
        return cls(_rounded(weight), None if bias is None else _rounded(bias))

    @classmethod
    def like(cls, weight: Tensor, bias: Tensor | None) -> Self:
        """Return what ``of`` does, without values."""
        return cls(_empty(weight), None if bias is None else _empty(bias))

    @property
    def floats(self) -> Tensor:
        """What is computed with."""
        return self.weight

    def stands_for(self, weight: Tensor) -> bool:
        """Whether ``weight`` is one that is rounded to this one."""
        return torch.equal(weight.detach().to(BF16), self.weight)

    def extra_repr(self) -> str:
        """Show what it holds."""
        return f"{list(self.weight.shape)}"


def _rounded(tensor: Tensor) -> Tensor:
    return tensor.detach().to(BF16, copy=True).contiguous()


def _empty(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=BF16)
