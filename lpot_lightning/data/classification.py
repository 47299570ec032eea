"""LPOT's metrics of classes, on torchmetrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torchmetrics
from torch import Tensor
from torchmetrics.classification import (
    BinaryF1Score,
    MulticlassAccuracy,
    MulticlassF1Score,
)

from lpot_lightning.data.meter import one_tensor
from lpot_lightning.data.metric import Metric
from lpot_lightning.data.regression import computed, same_shape


class TopK(Metric):
    """The share of samples whose class is among the ``k`` with the highest scores.

    ``MulticlassAccuracy(num_classes, top_k=k, average="micro")`` of torchmetrics, with the number
    of classes of the first batch; labels are class numbers, or one-hot. Nothing seen is 0, as in
    LPOT.
    """

    def __init__(self, k: int = 1) -> None:
        self._k = k
        self._held: torchmetrics.Metric | None = None

    def update(self, preds: Any, labels: Any) -> None:
        """Take one batch of scores."""
        scores = one_tensor(preds).float()
        scores = scores.reshape(1 if scores.dim() < 2 else len(scores), -1)
        classes = scores.shape[1]
        if self._k >= classes:
            raise ValueError(
                f"`topk: {self._k}` of {classes} classes is always 1; allowed: less than the number"
                " of classes, which is the second dimension of the output"
            )
        if self._held is None:
            self._held = MulticlassAccuracy(classes, top_k=self._k, average="micro")
        self._held.update(scores, _class_numbers(labels, len(scores)))

    def result(self) -> float:
        """Return the share."""
        return 0.0 if self._held is None else float(self._held.compute())


class Accuracy(Metric):
    """The share of what is predicted right: of samples, or of single labels of samples.

    Scores have one dimension more than the labels, the second, and are those of classes:
    ``MulticlassAccuracy(num_classes, average="micro")``. Predictions of the same shape as the
    labels are right where they are equal, which is averaged by ``MeanMetric``.
    """

    def __init__(self) -> None:
        self._held: torchmetrics.Metric | None = None

    def update(self, preds: Any, labels: Any) -> None:
        """Take one batch of scores, or of predicted labels."""
        given, wanted = _pair(preds, labels)
        if given.dim() == wanted.dim() + 1 and given.shape[1] > 1:
            self._take(
                lambda: MulticlassAccuracy(given.shape[1], average="micro"), given.float(), wanted
            )
            return
        given = _predicted(given, wanted, "Accuracy", "BinaryAccuracy")
        self._take(torchmetrics.MeanMetric, (given == wanted).float())

    def _take(self, make: Callable[[], torchmetrics.Metric], *batch: Tensor) -> None:
        self._held = make() if self._held is None else self._held
        self._held.update(*batch)

    def result(self) -> float:
        """Return the share."""
        return computed(self._held)


class F1(Metric):
    """The F1 score of class 1 of two, or the mean of those of all classes.

    ``BinaryF1Score``, or ``MulticlassF1Score(num_classes, average="macro")``. LPOT 1.x counted
    under this name how many items two bags have in common.
    """

    def __init__(self) -> None:
        self._held: torchmetrics.Metric | None = None

    def update(self, preds: Any, labels: Any) -> None:
        """Take one batch of scores, or of predicted classes 0 and 1."""
        given, wanted = _pair(preds, labels)
        scored = given.dim() == wanted.dim() + 1 and given.shape[1] > 1
        if scored and given.shape[1] > 2:
            if self._held is None:
                self._held = MulticlassF1Score(given.shape[1], average="macro")
            self._held.update(given.float(), wanted)
            return
        if scored:
            given = given.argmax(1)
        given = _predicted(given, wanted, "F1", "BinaryF1Score")
        if max(int(given.max()), int(wanted.max())) > 1:
            raise ValueError(
                "`F1` is given predicted classes above 1, which do not say how many there are: let"
                " the model give scores, or give a metric of your own, `metric('f1',"
                " MulticlassF1Score, num_classes=…)`"
            )
        if self._held is None:
            self._held = BinaryF1Score()
        self._held.update(given.long(), wanted.long())

    def result(self) -> float:
        """Return the score."""
        return computed(self._held)


def _class_numbers(labels: Any, samples: int) -> Tensor:
    """Return the class of each sample, from class numbers or one-hot rows."""
    wanted = torch.as_tensor(labels)
    if wanted.dim() == 0 or len(wanted) != samples:
        wanted = wanted.reshape(1, -1) if samples == 1 else wanted
    if wanted.dim() == 0 or len(wanted) != samples:
        raise ValueError(f"there are {samples} samples and labels of shape {list(wanted.shape)}")
    wanted = wanted.reshape(samples, -1)
    return wanted[:, 0].long() if wanted.shape[1] == 1 else wanted.argmax(1)


def _pair(preds: Any, labels: Any) -> tuple[Tensor, Tensor]:
    given, wanted = one_tensor(preds), torch.as_tensor(labels)
    if given.dim() not in (wanted.dim(), wanted.dim() + 1):
        raise ValueError(
            f"the output has the shape {list(given.shape)}, the labels {list(wanted.shape)};"
            " allowed: scores (batch, classes, …) or predictions (batch, …) for labels (batch, …)"
        )
    whole = not wanted.is_floating_point() or torch.equal(wanted, wanted.round())
    return given, wanted.long() if whole else wanted


def _predicted(given: Tensor, wanted: Tensor, name: str, instead: str) -> Tensor:
    """Return predicted labels in the shape of the labels."""
    given, wanted = same_shape(given, wanted)
    if given.is_floating_point() and not torch.equal(given, given.round()):
        raise ValueError(
            f"`{name}` is given {list(given.shape)} numbers that are no labels; allowed: labels, or"
            f" scores of at least two classes; for probabilities give a metric of your own,"
            f" `metric('{name}', {instead})`"
        )
    return given
