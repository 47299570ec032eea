"""What comes of rows of integers, by a module that holds all that it takes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lpot_lightning.quantization.kernels.rows import Rescale


class HeldRescale(nn.Module):
    """What a kernel of rows gives, to floats: the sums of its weight are a tensor of the file.

    Args:
        step: of a program.

    Attributes:
        op: of the user's model, that it computes for.
    """

    offset: Tensor | None
    sums: Tensor

    def __init__(self, step: Rescale) -> None:
        super().__init__()
        self.op = step.kernel.op
        self.register_buffer("offset", step.kernel.offset)
        self.register_buffer("sums", step.kernel.sums)

    def forward(self, products: Tensor, scales: Tensor, least: Tensor) -> Tensor:
        """Return the float32 values."""
        offset, sums = self.offset, self.sums
        shift = least * sums if offset is None else torch.addcmul(offset, least, sums)
        return torch.addcmul(shift, products, scales)
