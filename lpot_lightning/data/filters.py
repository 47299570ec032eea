"""Which samples of a data set are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Keep = Callable[[Any], bool]


def label_balance(size: int) -> Keep:
    """Return what keeps the samples with ``size`` labels, as LPOT's ``LabelBalance`` does.

    A number is one label.

    Example::

        label_balance(2)([7, 7])  # True
    """

    def keep(label: Any) -> bool:
        shape = getattr(label, "shape", None)
        if shape is not None:
            return (int(shape[0]) if len(shape) else 1) == size
        return (len(label) if hasattr(label, "__len__") else 1) == size

    return keep


FILTERS: dict[str, Callable[..., Keep]] = {"LabelBalance": label_balance}
"""LPOT's filters for PyTorch; each takes the options of the YAML."""
