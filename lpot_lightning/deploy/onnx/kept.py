"""Layers whose weight is of integers in a file, and of floats when it computes."""

from __future__ import annotations

from math import prod

import torch.nn.functional as F
from torch import Tensor, nn

from lpot_lightning.deploy.onnx.pairs import AS_FLOATS, LINEAR
from lpot_lightning.quantization.kernels.kept import KeptWeight
from lpot_lightning.quantization.rungs import WeightOnlyLayer


class PlacedKept(nn.Module):
    """A layer with a weight that is kept as integers, by ONNX's Cast and Mul.

    ONNX Runtime makes floats of it once, when it opens a file; OpenVINO holds the integers of a
    linear layer. Of DequantizeLinear ONNX Runtime 1.32 makes MatMulNBits, which rounds activations
    to 8 bits, unasked: a relative error of 0.005.

    Args:
        step: of a program.

    Attributes:
        op: of the user's model.
    """

    values: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, step: WeightOnlyLayer) -> None:
        super().__init__()
        self.op, self.step = step.kernel.op, (step,)  # whose tensors are not to be in the file
        values, scales = in_groups(step.kernel)
        if self.is_linear:  # inputs first, as ONNX's MatMul has it
            values, scales = values.permute(1, 2, 0), scales.permute(1, 2, 0)
        self.register_buffer("values", values.contiguous())
        self.register_buffer("scales", scales.contiguous())
        self.register_buffer("bias", step.kernel.bias)

    @property
    def is_linear(self) -> bool:
        """Whether it is no convolution."""
        return self.step[0].function == "linear"

    def forward(self, input: Tensor) -> Tensor:
        """Return the layer's output, of the type of the input."""
        (step,) = self.step
        shape = step.kernel.weight.shape
        weight = (AS_FLOATS(self.values) * self.scales).to(input.dtype)
        bias = None if self.bias is None else self.bias.to(input.dtype)
        if self.is_linear:
            return LINEAR(input, weight.flatten(0, 1)[: shape[1]], bias)
        whole = weight.flatten(1)[:, : prod(shape[1:])].reshape(shape)
        return step.computed(input, whole, bias)


def in_groups(kernel: KeptWeight) -> tuple[Tensor, Tensor]:
    """Return integers as ``[outputs, groups, inputs of one]``, the last one filled with zeros, and
    scales as ``[outputs, groups, 1]``."""
    flat = kernel.weight.flatten(1)
    size = min(kernel.group_size or flat.shape[1], flat.shape[1])
    whole = F.pad(flat, (0, -flat.shape[1] % size))
    return whole.view(len(flat), -1, size), kernel.scales.view(len(flat), -1, 1)
