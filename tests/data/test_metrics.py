"""The metrics of LPOT's names, by LPOT's cases and by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lpot_lightning.conf.evaluation import METRICS as ALLOWED
from lpot_lightning.data.metrics import METRICS

PREDICTS = torch.tensor([[0.0, 0.2, 0.9, 0.3], [0.0, 0.9, 0.8, 0.0]])
ONE_HOT = torch.tensor([[0, 1, 0, 0], [0, 0, 1, 0]])
THIRD = torch.tensor([[0.0, 0.2, 0.9, 0.3]])


def measured(name: str, *batches: Any, **options: Any) -> float:
    metric = METRICS[name](**options).fresh()
    for preds, labels in batches:
        preds, labels = (
            torch.tensor(one) if isinstance(one, list) else one for one in (preds, labels)
        )
        metric.update(preds, labels)
    return float(metric.result())


def test_the_conf_names_the_same_ones() -> None:
    assert set(METRICS) == set(ALLOWED)


@pytest.mark.parametrize(
    ("name", "batches", "expected"),
    [
        ("Accuracy", [([1, 0, 1, 1], [0, 1, 1, 1])], 0.5),
        ("Accuracy", [([[1, 0], [1, 1]], [[0, 1], [1, 0]])], 0.25),
        ("Accuracy", [([[0.9, 0.1], [0.2, 0.8], [0.9, 0.1], [0.3, 0.7]], [0, 1, 0, 0])], 0.75),
        ("Accuracy", [([[1], [0]], [1, 1])], 0.5),
        ("Accuracy", [([1], [1]), ([0], [1])], 0.5),
        ("Accuracy", [([[0.9, 0.1], [0.2, 0.8]], [0.0, 0.0])], 0.5),
        ("Accuracy", [([[0.9, 0.1], [0.2, 0.8]], [False, True])], 1.0),
        ("Accuracy", [([[[0, 1], [1, 0]], [[1, 1], [0, 0]]], [[1, 0], [1, 0]])], 0.75),
        ("MSE", [([1, 0, 0, 1], [0, 1, 1, 1])], 0.75),
        ("MSE", [([1, 0, 0, 1], [0, 1, 1, 1]), ([1, 1, 1, 1], [0, 1, 0, 1])], 0.625),
        ("MAE", [([1, 0, 0, 1], [0, 1, 1, 1])], 0.75),
        ("MAE", [([1, 0, 0, 1], [0, 1, 1, 1]), ([1, 1, 1, 1], [1, 1, 1, 0])], 0.5),
        ("RMSE", [([1, 0, 0, 1], [1, 0, 0, 0])], 0.5),
        ("RMSE", [([1, 0, 0, 1], [1, 0, 1, 0])], 0.5**0.5),
        ("Loss", [([0.5, 0.5], [1, 0])], 0.5),
        ("Loss", [([0.5, 0.5], [1, 0]), ([0.75, 0.75], [1, 0])], 0.625),
        ("F1", [([1, 1, 0], [1, 0, 1])], 0.5),
        ("F1", [([[0.1, 0.9], [0.2, 0.8], [0.9, 0.1]], [1, 0, 1])], 0.5),
        ("F1", [([[0.0, 1, 2], [2, 1, 0], [0, 2, 1]], [2, 0, 0])], 5 / 9),
    ],
)
def test_what_they_come_to(name: str, batches, expected: float) -> None:
    assert measured(name, *batches) == pytest.approx(expected)


@pytest.mark.parametrize("labels", [ONE_HOT, torch.tensor([1, 2]), torch.tensor([[1], [2]])])
@pytest.mark.parametrize(("k", "expected"), [(1, 0.0), (2, 0.5), (3, 1.0)])
def test_topk_of_sparse_and_one_hot_labels(labels, k: int, expected: float) -> None:
    assert measured("topk", (PREDICTS, labels), k=k) == expected


def test_topk_five_takes_torch_labels() -> None:
    scores = torch.arange(40.0).reshape(4, 10)
    assert measured("topk", (scores, torch.tensor([9, 5, 4, 0])), k=5) == 0.5


def test_topk_of_nothing_is_nothing() -> None:
    assert METRICS["topk"](k=1).fresh().result() == 0


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"topk"}))
def test_the_others_are_not_known_before_a_batch(name: str) -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        METRICS[name]().fresh().result()


@pytest.mark.parametrize("name", sorted(METRICS))
def test_each_pass_begins_anew(name: str) -> None:
    meter, scores = METRICS[name](), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    found = []
    for _ in range(2):
        metric = meter.fresh()
        labels = scores if "M" in name else torch.tensor([1, 1])
        metric.update(scores if name != "Loss" else scores[0], labels)
        found.append(float(metric.result()))
    assert found[0] == found[1]


@pytest.mark.parametrize(("name", "higher"), [("topk", True), ("F1", True), ("Loss", False)])
def test_which_way_is_better(name: str, higher: bool) -> None:
    assert METRICS[name]().higher_is_better is higher


def test_outputs_are_found_by_name_and_in_several() -> None:
    labels = torch.tensor([2, 1])
    assert measured("topk", ({"logits": PREDICTS, "loss": torch.ones(())}, labels)) == 1
    assert measured("topk", ((PREDICTS,), labels)) == 1
    assert measured("Loss", ({"loss": torch.tensor(0.25), "logits": PREDICTS}, labels)) == 0.25
    pair, zeros = (torch.ones(2), torch.ones(2, 3)), (torch.zeros(2), torch.zeros(2, 3))
    assert measured("MSE", (pair, zeros)) == 1


@pytest.mark.parametrize("name", ["Loss", "MSE", "MAE", "RMSE"])
def test_a_number_that_is_none_is_not_left_out(name: str) -> None:
    assert str(measured(name, ([1.0, float("nan")], [1.0, 2.0]))) == "nan"


@pytest.mark.parametrize(
    ("name", "batch", "match"),
    [
        ("topk", (PREDICTS[:, :1], [0, 0]), "`topk: 1` of 1 classes is always 1"),
        ("topk", (PREDICTS, [1, 2, 3]), r"there are 2 samples and labels of shape \[3\]"),
        ("topk", ((PREDICTS, PREDICTS), [1, 2]), "gives 2 tensors .a `tuple`.*`Metric` of your"),
        ("Accuracy", (PREDICTS, PREDICTS.reshape(2, 2, 2)), r"the shape \[2, 4\], the labels"),
        ("Accuracy", ([0.2, 0.9], [0, 1]), "no labels; allowed: labels.*BinaryAccuracy"),
        ("Accuracy", ([0, 1, 1], [0, 1]), r"the output has the shape \[3\], what it is compared"),
        ("F1", ([0, 2], [1, 2]), "classes above 1, which do not say how many"),
        ("F1", ([1, 1], [2, 1, 1]), "the output has the shape"),
        ("MSE", ((PREDICTS, PREDICTS), PREDICTS), "2 tensors, and there are 1 labels"),
        ("MAE", (PREDICTS, PREDICTS[:1]), r"\[2, 4\], what it is compared with \[1, 4\]; allowed"),
    ],
)
def test_what_does_not_fit_is_told(name: str, batch, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        measured(name, batch)
