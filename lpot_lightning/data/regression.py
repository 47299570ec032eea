"""LPOT's metrics of numbers, on torchmetrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torchmetrics
from torch import Tensor

from lpot_lightning.data.meter import one_tensor, tensors_of
from lpot_lightning.data.metric import Metric


class Error(Metric):
    """MSE, RMSE or MAE over all numbers of all outputs: ``MeanSquaredError`` and its like."""

    higher_is_better = False

    def __init__(self, held: torchmetrics.Metric, compare_label: bool = True) -> None:
        self._held, self.compare_label = held, compare_label

    def update(self, preds: Any, labels: Any) -> None:
        """Take one batch of outputs, and of labels of the same shapes."""
        given, wanted = tensors_of(preds), _wanted(labels)
        if len(given) != len(wanted):
            raise ValueError(
                f"the model gives {len(given)} tensors, and there are {len(wanted)} labels to"
                " compare them with; allowed: as many"
            )
        for one, other in zip(given, wanted, strict=True):
            self._held.update(*same_shape(one.float(), other.float()))

    def result(self) -> float:
        """Return the error."""
        return computed(self._held)


class Loss(Metric):
    """The mean of what the model gives, which is its loss: a number for each sample.

    LPOT's sum of outputs over number of labels, by ``MeanMetric``. One number for a whole batch
    is taken as the mean of its samples. Of a mapping ``loss`` is taken.
    """

    higher_is_better = False

    def __init__(self) -> None:
        self._held = torchmetrics.MeanMetric(nan_strategy="disable")  # else NaN is left out

    def update(self, preds: Any, labels: Any) -> None:
        """Take one batch of losses."""
        if isinstance(preds, Mapping) and isinstance(preds.get("loss"), Tensor):
            preds = preds["loss"]
        given = one_tensor(preds).float()
        wanted = _wanted(labels)
        samples = len(wanted[0]) if wanted and wanted[0].dim() else 1
        self._held.update(given if given.dim() == 0 else given.sum() / samples, samples)

    def result(self) -> float:
        """Return the mean."""
        return computed(self._held)


def _wanted(labels: Any) -> list[Tensor]:
    found = tensors_of(labels)
    return found or [torch.as_tensor(labels)]


def computed(held: torchmetrics.Metric | None) -> float:
    """Return what a metric comes to.

    Raises:
        ValueError: if it has seen nothing.
    """
    if held is None or not held.update_called:
        raise ValueError("nothing was measured")
    return float(held.compute())


def same_shape(given: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in the same shape, where they differ by dimensions of 1 at most."""
    if given.shape != wanted.shape:
        if [s for s in given.shape if s != 1] != [s for s in wanted.shape if s != 1]:
            raise ValueError(
                f"the output has the shape {list(given.shape)}, what it is compared with"
                f" {list(wanted.shape)}; allowed: the same"
            )
        given = given.reshape(wanted.shape)
    return given, wanted
