"""How much each group of weights matters."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lpot_lightning.errors import ArtifactError, PruningError
from lpot_lightning.pruning.patterns import Pattern
from lpot_lightning.pruning.weights import Weight


class Magnitude:
    """LPOT's ``basic_magnitude``: the sum of the absolute values of a group."""

    needs_gradients = False

    def __init__(self, weights: Sequence[Weight], pattern: Pattern) -> None:
        self._pattern = pattern

    def observe(self, only: Collection[int] | None = None) -> None:
        """Take nothing in: the weights themselves say how much they matter."""

    def of(self, weight: Weight) -> Tensor:
        """Return the importance of each group of ``weight``, ``[rows, groups]``."""
        return self._pattern.reduce(weight.value.detach().abs(), weight.transposed)

    def begin_anew(self) -> None:
        """Forget nothing."""

    def state(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take nothing up."""


class GradientSensitivity:
    """LPOT's ``gradient_sensitivity``: the sum of ``|w * dL/dw|`` over a group and over steps.

    That is the first-order estimate of what the loss loses without a weight (Molchanov et al.,
    "Importance estimation for neural network pruning", 2019). It is summed up from one change of
    the masks to the next; LPOT summed it up over the whole training.
    """

    needs_gradients = True

    def __init__(self, weights: Sequence[Weight], pattern: Pattern) -> None:
        self._weights, self._pattern = weights, pattern
        self._sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def observe(self, only: Collection[int] | None = None) -> None:
        """Take in the gradients that are there; an overflow of mixed precision counts nothing."""
        for weight in self._weights:
            gradient = weight.value.grad
            if gradient is None or not (only is None or id(weight.value) in only):
                continue
            product = (weight.value * gradient).float().abs_().nan_to_num_(0.0, 0.0)
            sums = self._pattern.reduce(product, weight.transposed)
            before = self._sums.get(weight.name)
            if before is None or before.shape != sums.shape:  # the first, or of an exchanged one
                self._sums[weight.name] = sums
            else:
                before.add_(sums)

    def of(self, weight: Weight) -> Tensor:
        """Return the importance of each group of ``weight``, ``[rows, groups]``.

        Raises:
            PruningError: if no gradient of it was seen.
        """
        if weight.name not in self._sums:
            raise PruningError(
                f"`{weight.name}` is to be pruned by `gradient_sensitivity`, and no step gave it a"
                " gradient: it is frozen, or the loss does not depend on it; exclude it by"
                " `excluded_names`"
            )
        return self._sums[weight.name].to(weight.value.device)

    def begin_anew(self) -> None:
        """Forget what was summed up."""
        self._sums = {}

    def state(self) -> dict[str, Any]:
        """Return what was summed up."""
        return dict(self._sums)

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` gave.

        Raises:
            ArtifactError: if it is damaged.
        """
        for weight in self._weights:
            saved = state.get(weight.name)
            if saved is None:
                continue
            expected = self._pattern.reduce(torch.zeros_like(weight.value), weight.transposed).shape
            if not isinstance(saved, Tensor) or saved.shape != expected:
                raise ArtifactError(f"the sensitivity of `{weight.name}` is damaged")
            self._sums[weight.name] = saved.to(weight.value.device)
