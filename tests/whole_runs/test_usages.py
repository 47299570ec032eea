"""LPOT's three usages of Quantization, with data and metrics of the YAML and of the user."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torchmetrics
from plain_scenes import KINDS, QAT, accuracy, conf, corners, eval_loader, net, train_loader
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

from lpot_lightning import Metric, Quantization
from lpot_lightning.errors import (
    ConfError,
    DataError,
    EvaluationError,
    LpotError,
    NotYetError,
)
from tests.lpot.test_quantization import check_same_world, same, world

DUMMY = {"dataset": {"dummy": {"shape": [64, 1, 8, 8], "low": -2.0, "high": 2.0, "label": True}}}
TRAIN = {
    "optimizer": {"SGD": {"learning_rate": 0.001, "momentum": 0.9}},
    "criterion": {"CrossEntropyLoss": {}},
    "end_epoch": 1,
}
LOOSE = {"accuracy_criterion": {"absolute": 1.0}}


class Right(Metric):
    """The share of right answers, in LPOT's words."""

    def __init__(self) -> None:
        self.reset()

    def update(self, predict: Tensor, label: Tensor) -> None:
        self.right += int((predict.argmax(1) == label).sum())
        self.seen += len(label)

    def reset(self) -> None:
        self.right = self.seen = 0

    def result(self) -> float:
        return self.right / self.seen


class NotKept(Right):
    """One that says nothing of how to forget."""

    reset = Metric.reset

    def __init__(self) -> None:
        self.right = self.seen = 0


class Numbered:
    """LPOT's dataset with `__getitem__`."""

    def __init__(self, count: int = 400, seed: int = 1) -> None:
        self.all = corners(count, seed)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, kind = self.all[index]
        return image, int(kind)

    def __len__(self) -> int:
        return len(self.all)


class Streamed:
    """LPOT's dataset with `__iter__`."""

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return ((image, int(kind)) for image, kind in corners(400, seed=1))


def asked(workspace: Path | str, *, metric: Any = None, **given: Any) -> dict[str, Any]:
    """Return a conf that is judged by a metric of the YAML."""
    accuracy = {"metric": metric or {"topk": 1}, **given.pop("accuracy", {})}
    return conf(workspace, **given) | {"evaluation": {"accuracy": accuracy}}


# The three usages


def test_all_of_it_in_the_yaml(workspace: Path) -> None:
    given = asked(
        workspace,
        tuning=LOOSE,
        accuracy={"dataloader": {**DUMMY, "batch_size": 16}},
        calibration={"sampling_size": 32, "dataloader": {**DUMMY, "batch_size": 8}},
    )
    model = net()
    before = world(model)
    one = Quantization(given)
    int8 = one(model)
    check_same_world(before, model)
    assert int8 is one.result.model
    assert (one.result.monitor, one.result.status) == ("topk", "met")


def test_loaders_in_code_and_the_metric_in_the_yaml(workspace: Path) -> None:
    one = Quantization(asked(workspace))
    one.model, one.calib_dataloader, one.eval_dataloader = net(), train_loader(), eval_loader()
    int8 = one()
    assert one.result.status == "met"
    assert one.result.baseline == pytest.approx(accuracy(net().eval()))
    assert one.result.accuracy == pytest.approx(accuracy(int8))


@pytest.mark.parametrize("dataset", [Numbered(), Streamed()])
def test_dataset_and_metric_of_the_user(workspace: Path, dataset) -> None:
    quantizer = Quantization(conf(workspace))
    dataloader = quantizer.dataloader(dataset, batch_size=100)
    quantizer.metric("metric", Right)
    q_model = quantizer(net(), q_dataloader=dataloader, eval_dataloader=dataloader)
    assert quantizer.result.monitor == "metric"
    assert quantizer.result.accuracy == pytest.approx(accuracy(q_model))


def test_a_loader_and_a_function(workspace: Path) -> None:
    given = asked(workspace, accuracy={"dataloader": DUMMY})
    one = Quantization(given)
    one.metric("mine", Right)
    one.model, one.calib_dataloader, one.eval_func = net(), train_loader(), accuracy
    with pytest.warns(UserWarning, match="replace `evaluation.accuracy.metric`.*`mine`"):
        one()
    assert one.result.monitor == "accuracy"


def test_both_call_styles_give_the_same(tmp_path: Path, workspace: Path) -> None:
    by_attributes = Quantization(asked(tmp_path / "one"))
    by_attributes.model, by_attributes.eval_dataloader = net(), eval_loader()
    by_arguments = Quantization(conf_fname=asked(tmp_path / "two"))
    assert same(by_attributes(), by_arguments(net(), eval_dataloader=eval_loader()))


def test_images_of_a_folder_judged_by_name(workspace: Path, tmp_path: Path) -> None:
    from PIL import Image

    images, kinds = corners(48, seed=1).tensors
    pixels = ((images * 0.25 + 0.5).clamp(0, 1) * 255).byte()
    for number, kind in enumerate(kinds.tolist()):
        path = tmp_path / "images" / f"kind {kind}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[number, 0].numpy()).save(path)
    block = {
        "dataset": {"ImageFolder": {"root": str(tmp_path / "images")}},
        "batch_size": 16,
        "transform": {
            "AlignImageChannel": {"dim": 1},
            "ToTensor": {},
            "Normalize": {"mean": [0.5], "std": [0.25]},
        },
    }
    given = asked(
        workspace,
        accuracy={"dataloader": block},
        tuning=LOOSE,
        calibration={"sampling_size": 32, "dataloader": block},
    )
    one, model = Quantization(given), net().eval()
    one(model)
    with torch.no_grad():
        found = model((pixels / 255 - 0.5) / 0.25).argmax(1)
    assert one.result.baseline == pytest.approx(float((found == kinds).float().mean()))
    assert one.result.baseline > 0.5


def test_sentences_of_a_tsv_judged_by_name(workspace: Path, tmp_path: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "good", "bad", "film"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    rows = [f"a {('bad', 'good')[number % 2]} film\t{number % 2}" for number in range(8)]
    (tmp_path / "dev.tsv").write_text("\n".join(["sentence\tlabel", *rows]))
    block = {
        "dataset": {"bert": {"root": str(tmp_path), "label_file": "dev.tsv"}},
        "batch_size": 4,
    }
    given = asked(
        workspace,
        metric={"Accuracy": {}},
        accuracy={"dataloader": block},
        tuning=LOOSE,
        calibration={"sampling_size": 8, "dataloader": block},
    )
    small = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    one = Quantization(given)
    one(BertForSequenceClassification(small))
    assert (one.result.monitor, one.result.status) == ("Accuracy", "met")


# Metrics


@pytest.mark.parametrize(
    "metric", [Right, Right(), NotKept, MulticlassAccuracy(KINDS, average="micro")]
)
def test_a_metric_is_a_class_or_an_object(workspace: Path, metric) -> None:
    one = Quantization(conf(workspace))
    one.metric("mine", metric)
    int8 = one(net(), train_loader(), eval_dataloader=eval_loader())
    assert one.result.accuracy == pytest.approx(accuracy(int8))


def test_a_metric_may_be_assigned_and_takes_arguments(workspace: Path) -> None:
    one = Quantization(conf(workspace))
    one.metric("f1", torchmetrics.classification.MulticlassF1Score, num_classes=KINDS)
    one(net(), train_loader(), eval_dataloader=eval_loader())
    assert one.result.monitor == "f1"
    one.metric = Right
    one(net(), train_loader(), eval_dataloader=eval_loader())
    assert one.result.monitor == "metric"


def test_a_loss_is_to_be_low(workspace: Path) -> None:
    class Wrong(Right):
        higher_is_better = False

        def result(self) -> float:
            return 1 - super().result()

    one = Quantization(conf(workspace, tuning={"accuracy_criterion": {"absolute": 0.01}}))
    one.metric("wrong", Wrong)
    int8 = one(net(), train_loader(), eval_dataloader=eval_loader())
    assert not one.result.criterion.higher_is_better
    assert one.result.status == "met"
    assert one.result.accuracy == pytest.approx(1 - accuracy(int8))


def test_outputs_are_compared_with_those_of_fp32(workspace: Path) -> None:
    goal = {"accuracy_criterion": {"absolute": 100, "higher_is_better": False}}
    given = asked(workspace, metric={"MSE": {"compare_label": False}}, tuning=goal)
    one, images = Quantization(given), corners(400, seed=1).tensors[0]
    loader = DataLoader([image for image in images], batch_size=50)  # no labels
    int8 = one(net(), eval_dataloader=loader)
    with torch.no_grad():
        expected = ((int8(images) - net().eval()(images)) ** 2).mean()
    assert one.result.baseline == 0
    assert one.result.accuracy == pytest.approx(float(expected), rel=1e-4)
    assert one.result.accuracy > 0


def test_a_relative_goal_is_none_where_fp32_has_no_error(workspace: Path) -> None:
    given = asked(workspace, metric={"MSE": {"compare_label": False}})
    with pytest.raises(ConfError, match="absolute"):
        Quantization(given)(net(), eval_dataloader=eval_loader())


def test_iteration_limits_the_batches(workspace: Path) -> None:
    class Counted(Right):
        def result(self) -> float:
            return float(self.seen)

    given = asked(workspace, accuracy={"iteration": 3})
    del given["evaluation"]["accuracy"]["metric"]
    one = Quantization(given)
    one.metric("seen", Counted)
    one(net(), train_loader(), eval_dataloader=eval_loader())
    assert one.result.baseline == 150


def test_labels_are_shifted(workspace: Path) -> None:
    shifted = [(images, kinds + 1) for images, kinds in eval_loader()]
    given = asked(workspace, accuracy={"postprocess": {"transform": {"LabelShift": 1}}})
    one = Quantization(given)
    one(net(), train_loader(), eval_dataloader=shifted)
    assert one.result.baseline == pytest.approx(accuracy(net().eval()))


class Two(nn.Module):
    """Takes two inputs, and gives scores by name."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, KINDS)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"logits": self.second(torch.relu(self.first(x)) + y)}


@pytest.mark.parametrize("kind", [tuple, dict, "labelled"])
def test_inputs_are_several(workspace: Path, kind) -> None:
    x, y = torch.randn(16, 8), torch.randn(16, 8)
    label = torch.arange(16) % KINDS
    batch: Any = {tuple: ((x, y), label), dict: ({"x": x, "y": y}, label)}.get(kind)
    model: nn.Module = Two()
    if kind == "labelled":

        class Labelled(Two):
            def forward(self, x: Tensor, y: Tensor, labels: Tensor) -> dict[str, Tensor]:
                return super().forward(x, y)

        batch, model = {"x": x, "y": y, "labels": label}, Labelled()
    one = Quantization(asked(workspace, tuning=LOOSE, calibration={"sampling_size": 32}))
    one(model, eval_dataloader=[batch, batch])
    assert one.result.status == "met"


# Training by the YAML


@pytest.mark.parametrize("where", ["code", "train", "calibration"])
def test_the_yaml_trains(workspace: Path, where: str) -> None:
    train = {**TRAIN, "dataloader": DUMMY} if where == "train" else TRAIN
    quantizes = {"calibration": {"dataloader": DUMMY}} if where == "calibration" else {}
    given = asked(workspace, approach=QAT, tuning=LOOSE, train=train, **quantizes)
    model = net()
    before = world(model)
    one = Quantization(given)
    loader = train_loader(shuffle=True) if where == "code" else None
    int8 = one(model, q_dataloader=loader, eval_dataloader=eval_loader())
    check_same_world(before, model)
    assert one.result.status == "met"
    assert int8 is one.result.model


def test_what_is_given_replaces_parts_of_the_yaml(workspace: Path) -> None:
    given = asked(
        workspace,
        approach=QAT,
        tuning=LOOSE,
        train={**TRAIN, "dataloader": DUMMY, "frequency": 2},
        accuracy={"dataloader": DUMMY, "configs": {"cores_per_instance": 1}},
    )
    with pytest.warns(UserWarning, match="that are given|no effect") as caught:
        Quantization(given)(net(), train_loader(), eval_dataloader=eval_loader())
    replaced, idle = (str(one.message) for one in caught)
    assert replaced == (
        "<mapping>: the functions and loaders that are given replace"
        " `quantization.train.dataloader`, `evaluation.accuracy.dataloader`"
    )
    assert "no effect here: `evaluation.accuracy.configs`: threads and" in idle
    assert "`quantization.train.frequency`: nothing is judged" in idle
    assert {one.filename for one in caught} == {__file__}


# What a history depends on


def test_a_history_counts_for_the_same_data_and_metric(workspace: Path, caplog) -> None:
    caplog.set_level(logging.INFO)
    goal = {"accuracy_criterion": {"absolute": 100}}
    given = asked(workspace, metric={"MSE": {"compare_label": False}}, tuning=goal)

    def replayed(loader: Any) -> list[bool]:
        one = Quantization(given)
        one(net(), train_loader(), eval_dataloader=loader)  # its baseline is 0 in any case
        return [trial.replayed for trial in one.result.trials]

    assert replayed(eval_loader()) == [False]
    assert replayed(eval_loader()) == [True]
    assert replayed(eval_loader(batch_size=20)) == [False]
    assert "evaluation data and metric" in caplog.text


# What is refused


@pytest.mark.parametrize(
    ("name", "metric", "options", "match"),
    [
        ("mine", nn.Linear, {}, "`mine` is the class `Linear`; allowed: a subclass of"),
        ("mine", 3, {}, "`mine` is a `int`; allowed: a subclass of `lpot_lightning.Metric`"),
        ("mine", Right(), {"k": 1}, "an object and no class, and there are arguments.*`k`"),
        ("mine", Right, {"k": 1}, r"cannot be made by `Right` with `k` \(TypeError"),
        ("mine", MulticlassAccuracy, {}, r"with no arguments \(.*`metric\('mine', Multiclass"),
        ("mine", Metric, {}, "`Metric` has no `update`; write it"),
        ("mine", NotKept(), {}, "has no `reset`, and the metric `mine` is one object"),
        ("", Right, {}, "the name of a metric is `''`; allowed: a text"),
        (Right, Right, {}, "the name of a metric is `<class"),
    ],
)
def test_bad_metrics(workspace: Path, name, metric, options, match: str) -> None:
    with pytest.raises(ConfError, match=match):
        Quantization(conf(workspace)).metric(name, metric, **options)


class Uncertain(Right):
    """One that says its way in words."""

    higher_is_better = "yes"


class Half(Metric):
    """One without a result."""

    def update(self, preds: Any, labels: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("metric", "match"),
    [
        (Uncertain, "`Uncertain.higher_is_better` is `'yes'`; allowed: `True`, `False`, `None`"),
        (Half, "`Half` has no `result`; write it"),
    ],
)
def test_half_a_metric(workspace: Path, metric, match: str) -> None:
    with pytest.raises(ConfError, match=match):
        Quantization(conf(workspace)).metric("mine", metric)


class Bare:
    """As a metric of LPOT 1.6 may be: it has no base class."""

    def __init__(self) -> None:
        self.right = self.seen = 0

    def update(self, preds: Any, labels: Any) -> None:
        self.right += int((preds.argmax(1) == labels).sum())
        self.seen += len(labels)

    def reset(self) -> None:
        self.right = self.seen = 0

    def result(self) -> float:
        return self.right / self.seen


def test_a_metric_needs_no_base_class(workspace: Path) -> None:
    one = Quantization(conf(workspace))
    one.metric("bare", Bare)
    int8 = one(net(), train_loader(), eval_dataloader=eval_loader())
    assert one.result.monitor == "bare"
    assert one.result.accuracy == pytest.approx(accuracy(int8), abs=1e-6)


def test_dataloader_is_no_attribute(workspace: Path) -> None:
    with pytest.raises(ConfError, match="`dataloader` is a method.*`calib_dataloader`"):
        Quantization(conf(workspace)).dataloader = eval_loader()


class Texts(Right):
    """Its result is no number."""

    def result(self) -> Any:
        return {"accuracy": 1.0}


class Failing(Right):
    """It raises."""

    def update(self, predict: Tensor, label: Tensor) -> None:
        raise KeyError("mine")


@pytest.mark.parametrize(
    ("metric", "loader", "kind", "match"),
    [
        (Right, iter(eval_loader()), ConfError, "can be gone through once, and each model"),
        (Right, [], DataError, "`eval_dataloader` is empty: there is no batch to judge by"),
        (Right, [torch.randn(2, 1, 8, 8)], DataError, "has no label; allowed: `.input, label.`"),
        (Right, [(1, 2, 3)], DataError, "`eval_dataloader`: a batch is a `tuple` of 3"),
        (Right, [(torch.randn(2, 3), torch.ones(2))], EvaluationError, "batch 1 of `eval_datal"),
        (Texts, None, EvaluationError, "the metric `mine` returned a `dict`; allowed: one number"),
        (Failing, None, EvaluationError, r"the metric `mine` cannot be taken.*\(KeyError: 'mine'"),
    ],
)
def test_bad_data_to_judge_by(workspace: Path, metric, loader, kind, match: str) -> None:
    one = Quantization(conf(workspace))
    one.metric("mine", metric)
    with pytest.raises(kind, match=match):
        one(net(), train_loader(), eval_dataloader=eval_loader() if loader is None else loader)


def test_a_loader_that_breaks_is_told(workspace: Path) -> None:
    class Broken(Numbered):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            if index == 60:
                raise OSError("disk")
            return super().__getitem__(index)

    one = Quantization(asked(workspace))
    loader = one.dataloader(Broken(), batch_size=50)
    with pytest.raises(DataError, match=r"`eval_dataloader` cannot be read after 1 batches .OSE"):
        one(net(), train_loader(), eval_dataloader=loader)


def test_a_loader_of_another_order_each_time_is_told(workspace: Path) -> None:
    class Fickle:
        def __iter__(self) -> Iterator[Any]:
            self.count = getattr(self, "count", 0) + 1
            return iter([(torch.full((4, 1, 8, 8), float(self.count)), torch.zeros(4))])

    given = asked(workspace, metric={"MAE": {"compare_label": False}}, tuning=LOOSE)
    with pytest.raises(DataError, match="`eval_dataloader` gives other batches in each pass"):
        Quantization(given)(net(), train_loader(), eval_dataloader=Fickle())


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"eval_dataloader": eval_loader()}, "no `eval_func` to judge by, and data without a metr"),
        ({}, "there is no `eval_func` to judge by: give a function .* or give a metric"),
    ],
)
def test_a_judge_is_a_must(workspace: Path, given, match: str) -> None:
    with pytest.raises(ConfError, match=match):
        Quantization(conf(workspace))(net(), train_loader(), **given)


def test_a_metric_without_data_is_told(workspace: Path) -> None:
    with pytest.raises(DataError, match="there is a metric, and no data.*`eval_dataloader`"):
        Quantization(asked(workspace))(net(), train_loader())


@pytest.mark.parametrize("asked_for", [True, False])
def test_a_contradicted_direction_is_told(workspace: Path, asked_for: bool) -> None:
    metric = {"MSE": {}} if asked_for else {"topk": 1}
    criterion = {"accuracy_criterion": {"absolute": 1, "higher_is_better": asked_for}}
    one = Quantization(asked(workspace, metric=metric, tuning=criterion))
    said = f"is contradicted: `tuning.*` says {asked_for}, the metric itself says {not asked_for}"
    with pytest.raises(ConfError, match=said):
        one(net(), train_loader(), eval_dataloader=eval_loader())


def test_a_metric_that_does_not_say_its_way_needs_the_yaml(workspace: Path) -> None:
    criterion = {"accuracy_criterion": {"absolute": 100, "higher_is_better": False}}
    for tuning in (None, criterion):
        one = Quantization(conf(workspace, tuning=tuning))
        one.metric("mean", torchmetrics.CatMetric)
        with pytest.raises(
            LpotError, match="which way `mean` is better" if not tuning else "mean`"
        ):
            one(net(), train_loader(), eval_dataloader=eval_loader())


def test_a_torchmetrics_object_of_the_users_stays_as_it_is(workspace: Path) -> None:
    mine = MulticlassAccuracy(KINDS, average="micro")
    mine.update(torch.eye(KINDS), torch.arange(KINDS))
    one = Quantization(conf(workspace))
    one.metric("mine", mine)
    one(net(), train_loader(), eval_dataloader=eval_loader())
    assert (float(mine.compute()), mine.update_count) == (1.0, 1)


NESTEROV = {"SGD": {"learning_rate": 0.1, "nesterov": True}}


@pytest.mark.parametrize(
    ("train", "match"),
    [
        ({"optimizer": None}, "`quantization.train`: `optimizer` is missing; for example"),
        ({"criterion": None}, "`criterion` is missing"),
        ({"end_epoch": None}, "`end_epoch` is missing; for example `1`"),
        ({"start_epoch": 1}, "`end_epoch` is 1 and `start_epoch` 1, which is no epoch at all"),
        ({"optimizer": NESTEROV}, "`optimizer`: ValueError: Nesterov"),
        ({"criterion": {"CrossEntropyLoss": {"reduction": "none"}}}, "a loss for each sample"),
        (
            {"dataloader": {"dataset": {"dummy_v2": {"input_shape": [1, 8, 8]}}}},
            "`iteration` is missing: `quantization.train.dataloader` never ends",
        ),
    ],
)
def test_bad_trainings(workspace: Path, train, match: str) -> None:
    loader = {"dataloader": DUMMY}
    given = asked(workspace, approach=QAT, train={**TRAIN, **loader, **train})
    with pytest.raises(ConfError, match=match):
        Quantization(given)(net(), eval_dataloader=eval_loader())


@pytest.mark.parametrize(
    ("loader", "kind", "match"),
    [
        (None, DataError, "`quantization.train` has no data to train on: give a `q_dataloader`"),
        (iter(train_loader()), ConfError, "can be gone through once, and each epoch"),
        ([torch.randn(4, 1, 8, 8)], DataError, "has no label; allowed"),
        ([(torch.randn(4, 1, 8, 8), torch.ones(7).long())], DataError, "criterion of the `train`"),
    ],
)
def test_bad_data_to_train_on(workspace: Path, loader, kind, match: str) -> None:
    given = asked(workspace, approach=QAT, train=TRAIN)
    with pytest.raises(kind, match=match):
        Quantization(given)(net(), loader, eval_dataloader=eval_loader())


def test_a_data_set_that_is_not_built_is_told_by_name(workspace: Path) -> None:
    block = {"dataset": {"COCORaw": {"root": "/data"}}}
    given = asked(workspace, calibration={"dataloader": block})
    said = "`quantization.calibration.dataloader`: the data set `COCORaw` is not built yet"
    with pytest.raises(NotYetError, match=said):
        Quantization(given)(net(), eval_dataloader=eval_loader())
