"""What is done to outputs and labels before they are compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils import _pytree as pytree

Process = Callable[[Any, Any], tuple[Any, Any]]


def label_shift(shift: int) -> Process:
    """Return what lowers all labels by ``shift``, as LPOT's ``LabelShift`` does.

    Example::

        scores, labels = label_shift(1)(torch.rand(2, 10), torch.tensor([1, 2]))
        labels  # [0, 1]
    """

    def lowered(output: Any, label: Any) -> tuple[Any, Any]:
        numbers = (Tensor, np.ndarray, int, float)
        return output, pytree.tree_map_only(numbers, lambda one: one - shift, label)

    return lowered


POSTPROCESSES: dict[str, Callable[..., Process]] = {"LabelShift": label_shift}
"""LPOT's transforms after the model; each takes the options of the YAML."""
