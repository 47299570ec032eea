"""What is needed to trace a part again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lpot_lightning.module.calls import Scalar

WRAPPED = "0"  # where a single layer sits in the Sequential that is traced in its stead


@dataclass(frozen=True)
class PartSpec:
    """What is needed to trace and prepare a part again: plain values, kept in the files.

    Args:
        path: dotted path of the module in the user's model; ``""`` is the model itself.
        wrapped: whether the module is a single layer, traced inside a ``Sequential``.
        fixed: the non-tensor arguments of its ``forward``.
        kept: layers inside of it, by their names in it, that are no ops: others use their weights.
    """

    path: str
    wrapped: bool
    fixed: tuple[tuple[str, Scalar], ...] = ()
    kept: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {
            "path": self.path,
            "wrapped": self.wrapped,
            "fixed": dict(self.fixed),
            "kept": list(self.kept),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> PartSpec:
        """Return what ``to_dict`` gave."""
        fixed, kept = tuple(plain["fixed"].items()), tuple(plain["kept"])
        return cls(plain["path"], plain["wrapped"], fixed, kept)

    def name_of(self, inner: str) -> str:
        """Return the full name of what the graph calls ``inner``."""
        if self.wrapped:
            inner = inner.removeprefix(WRAPPED)
        return ".".join(piece for piece in (self.path, inner) if piece)


class _BagAlone(nn.Sequential):
    """An ``nn.EmbeddingBag``, which takes more than one argument, with a graph around it."""

    def forward(
        self,
        input: torch.Tensor,
        offsets: torch.Tensor | None = None,
        per_sample_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return self[0](input, offsets, per_sample_weights)  # type: ignore[no-any-return]


def alone(layer: nn.Module) -> nn.Module:
    """Return a module that holds nothing but ``layer``, as ``WRAPPED``, and can be traced."""
    return _BagAlone(layer) if isinstance(layer, nn.EmbeddingBag) else nn.Sequential(layer)
