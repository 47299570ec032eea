"""A weighted layer in one form, whatever its kind."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.ao.nn.intrinsic import _FusedModule  # type: ignore[attr-defined]

from lpot_lightning.quantization.fx.capability import OP_LAYERS

Conv = nn.modules.conv._ConvNd
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def unfused(module: nn.Module) -> nn.Module:
    """Return the layer that holds the weight: ``module``, or the first of what was fused."""
    return module[0] if isinstance(module, _FusedModule) else module


def prefix_of(module: nn.Module) -> str:
    """Return what stands before ``weight`` in the names of ``module``'s tensors."""
    return "0." if isinstance(module, _FusedModule) else ""


def rounded(module: nn.Module, weight: Tensor) -> Tensor | None:
    """Return ``weight`` as int8 would hold it in ``module``, ``None`` where it holds none."""
    qconfig = getattr(module, "qconfig", None)
    if not isinstance(unfused(module), OP_LAYERS) or qconfig is None:
        return None
    observer = qconfig.weight()
    if observer.dtype not in (torch.qint8, torch.quint8):
        return None
    observer(weight)
    scale, zero_point = observer.calculate_qparams()
    if scale.numel() == 1:
        held = torch.quantize_per_tensor(weight, float(scale), int(zero_point), observer.dtype)
    else:
        held = torch.quantize_per_channel(
            weight, scale, zero_point, observer.ch_axis, observer.dtype
        )
    return held.dequantize()


class LinearLayer:
    """A convolution, transposed or not, or a linear layer, by groups.

    Its weight is seen as ``[groups, outputs, inputs, kernel]``, both counted inside of a group:
    every such layer is a sum over the inputs of a group and the places of a kernel.

    Args:
        module: the layer, or what it was fused to.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.inner = unfused(module)
        self.transposed = isinstance(self.inner, TRANSPOSED)
        self.groups = self.inner.groups if isinstance(self.inner, Conv) else 1

    @staticmethod
    def fits(module: nn.Module) -> bool:
        """Whether ``module`` is such a layer."""
        return isinstance(unfused(module), (Conv, nn.Linear))

    @property
    def weight(self) -> Tensor:
        """As the module holds it."""
        return self.inner.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        """As the module holds it."""
        return self.inner.bias  # type: ignore[return-value]

    @property
    def per_channel(self) -> bool:
        """Whether int8 holds each output channel of its weight in a scale of its own."""
        return not self.transposed

    @property
    def spatial(self) -> int:
        """How many dimensions come after that of the channels."""
        return self.weight.dim() - 2

    @property
    def inputs(self) -> int:
        """How many channels it reads."""
        return int(self.weight.shape[0 if self.transposed else 1]) * (
            1 if self.transposed else self.groups
        )

    @property
    def outputs(self) -> int:
        """How many channels it gives."""
        return int(self.weight.shape[1 if self.transposed else 0]) * (
            self.groups if self.transposed else 1
        )

    def by_groups(self, weight: Tensor) -> Tensor:
        """Return ``weight`` as ``[groups, outputs, inputs, kernel]``."""
        if self.transposed:
            found = weight.reshape(self.groups, -1, weight.shape[1], self._places)
            return found.transpose(1, 2)
        return weight.reshape(self.groups, -1, weight.shape[1], self._places)

    def back(self, by_groups: Tensor) -> Tensor:
        """Return what ``by_groups`` gave in the shape of the weight."""
        found = by_groups.transpose(1, 2) if self.transposed else by_groups
        return found.reshape(self.weight.shape).contiguous()

    def per_output(self, values: Tensor) -> Tensor:
        """Return one value for each output channel so that it goes with ``by_groups``."""
        return values.reshape(self.groups, -1, 1, 1)

    def per_input(self, values: Tensor) -> Tensor:
        """Return one value for each input channel so that it goes with ``by_groups``."""
        return values.reshape(self.groups, 1, -1, 1)

    @property
    def outputs_of_group(self) -> int:
        """How many channels one group gives."""
        return self.outputs // self.groups

    @property
    def _places(self) -> int:
        return self.weight[0, 0].numel()
