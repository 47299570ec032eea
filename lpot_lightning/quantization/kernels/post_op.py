"""What a kernel does to its result before that leaves it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lpot_lightning.errors import QuantizationError

_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "hardtanh": F.hardtanh,
    "hardswish": F.hardswish,
    "swish": F.silu,
    "leaky_relu": F.leaky_relu,
    "tanh": torch.tanh,
    "gelu": lambda x, approximate: F.gelu(x, approximate=approximate),
}


@dataclass(frozen=True)
class PostOp:
    """An activation function under oneDNN's name.

    Args:
        name: of ``none``, ``relu``, ``hardtanh``, ``hardswish``, ``swish``, ``leaky_relu``,
            ``tanh``, ``gelu``.
        args: least and greatest value of ``hardtanh`` (0 and 6 is ReLU6), slope of ``leaky_relu``.
        algorithm: of ``gelu``: ``none``, which is exact, or ``tanh``.

    Raises:
        QuantizationError: for another name.

    Example::

        PostOp("hardtanh", (0.0, 6.0))(torch.tensor([-1.0, 9.0]))  # [0, 6]
    """

    name: str = "none"
    args: tuple[float, ...] = ()
    algorithm: str = ""

    def __post_init__(self) -> None:
        if self.name not in _FUNCTIONS:
            raise QuantizationError(f"no kernel has `{self.name}` as a post op")

    @property
    def told(self) -> tuple[str, tuple[float, ...], str]:
        """What a kernel is told of it."""
        return self.name, self.args, self.algorithm

    def __call__(self, values: Tensor) -> Tensor:
        """Return the function of ``values``."""
        algorithm = (self.algorithm,) if self.algorithm else ()
        return _FUNCTIONS[self.name](values, *self.args, *algorithm)


NONE = PostOp()
