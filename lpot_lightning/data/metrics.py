"""The metrics that a YAML names."""

from __future__ import annotations

from collections.abc import Callable

import torchmetrics

from lpot_lightning.data.classification import F1, Accuracy, TopK
from lpot_lightning.data.meter import Meter
from lpot_lightning.data.regression import Error, Loss


def _error(name: str, make: Callable[[], torchmetrics.Metric]) -> Callable[..., Meter]:
    def meter(compare_label: bool = True) -> Meter:
        return Meter(
            name=name,
            fresh=lambda: Error(make(), compare_label),
            higher_is_better=False,
            compare_label=compare_label,
            identity=(name, compare_label),
        )

    return meter


def _topk(k: int = 1) -> Meter:
    return Meter(name="topk", fresh=lambda: TopK(k), higher_is_better=True, identity=("topk", k))


METRICS: dict[str, Callable[..., Meter]] = {
    "topk": _topk,
    "Accuracy": lambda: Meter(
        name="Accuracy", fresh=Accuracy, higher_is_better=True, identity=("Accuracy",)
    ),
    "F1": lambda: Meter(name="F1", fresh=F1, higher_is_better=True, identity=("F1",)),
    "Loss": lambda: Meter(name="Loss", fresh=Loss, higher_is_better=False, identity=("Loss",)),
    "MAE": _error("MAE", torchmetrics.MeanAbsoluteError),
    "MSE": _error("MSE", torchmetrics.MeanSquaredError),
    "RMSE": _error("RMSE", lambda: torchmetrics.MeanSquaredError(squared=False)),
}
"""LPOT's metrics for PyTorch; each takes the options of the YAML."""
