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
            name,
            lambda: Error(make(), compare_label),
            False,
            compare_label,
            identity=(name, compare_label),
        )

    return meter


def _topk(k: int = 1) -> Meter:
    return Meter("topk", lambda: TopK(k), True, identity=("topk", k))


METRICS: dict[str, Callable[..., Meter]] = {
    "topk": _topk,
    "Accuracy": lambda: Meter("Accuracy", Accuracy, True, identity=("Accuracy",)),
    "F1": lambda: Meter("F1", F1, True, identity=("F1",)),
    "Loss": lambda: Meter("Loss", Loss, False, identity=("Loss",)),
    "MAE": _error("MAE", torchmetrics.MeanAbsoluteError),
    "MSE": _error("MSE", torchmetrics.MeanSquaredError),
    "RMSE": _error("RMSE", lambda: torchmetrics.MeanSquaredError(squared=False)),
}
"""LPOT's metrics for PyTorch; each takes the options of the YAML."""
