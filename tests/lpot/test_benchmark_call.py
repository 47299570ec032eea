"""`Benchmark`: data and metric of the YAML, of its methods, and of `deploy.yaml`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import yaml
from plain_scenes import accuracy, eval_loader, net
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from lpot_lightning import Benchmark, Quantization
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.data.block import loader_of
from lpot_lightning.errors import ConfError, DataError, EvaluationError, NotYetError
from tests.lpot.test_benchmark import LOADER, conf
from tests.whole_runs.test_usages import LOOSE, Numbered, Right, asked

DUMMY = {
    "batch_size": 16,
    "dataset": {"dummy": {"shape": [64, 1, 8, 8], "low": -2.0, "high": 2.0, "label": True}},
}
ENDLESS = {"dataset": {"dummy_v2": {"input_shape": [1, 8, 8], "label_shape": [1]}}}


def judged(**accuracy: Any) -> dict[str, Any]:
    """Return a conf with ``evaluation.accuracy`` alone."""
    return conf() | {"evaluation": {"accuracy": accuracy}}


def share_of(kind: int, model: nn.Module) -> float:
    """Return how often ``model`` sees ``kind`` in the dummy data."""
    found = read_conf(judged(dataloader=DUMMY)).evaluation.accuracy.dataloader
    images = torch.cat([images for images, _ in loader_of(found, "here")])
    return float((model.eval()(images).argmax(1) == kind).float().mean())


# Timing


def test_a_model_is_all_that_is_given() -> None:
    result = Benchmark(conf(warmup=1, iteration=-1, dataloader=DUMMY))(net())
    assert (result.speed.iterations, result.speed.batch_size) == (4, 16)


def test_the_data_of_the_accuracy_stand_for_those_of_the_performance() -> None:
    given = conf(iteration=6)
    given["evaluation"]["accuracy"] = {"dataloader": DUMMY, "metric": {"topk": 1}}
    result = Benchmark(given)(net())
    assert (result.speed.iterations, result.speed.batch_size) == (5, 16)
    given["evaluation"]["performance"]["dataloader"] = {**DUMMY, "batch_size": 8}
    assert Benchmark(given)(net()).speed.batch_size == 8


def test_data_without_an_end() -> None:
    result = Benchmark(conf(warmup=0, iteration=-1, dataloader=ENDLESS))(net())
    assert (result.speed.iterations, result.speed.batch_size) == (10, 1)
    assert Benchmark(conf(iteration=13, dataloader=ENDLESS))(net()).speed.iterations == 12


def test_a_loader_of_the_users_comes_first() -> None:
    with pytest.warns(UserWarning, match="replaced by the `b_dataloader`"):
        result = Benchmark(conf(dataloader=DUMMY))(net(), eval_loader())
    assert result.speed.batch_size == 50


def test_a_loader_of_a_data_set_of_the_users() -> None:
    benchmark = Benchmark(conf())
    benchmark.b_dataloader = benchmark.dataloader(Numbered(40), batch_size=20)
    assert benchmark(net()).speed.batch_size == 20


# Judging


def test_a_metric_of_the_yaml_on_the_users_data(quantized) -> None:
    model, int8 = quantized
    benchmark = Benchmark(judged(metric={"topk": 1}))
    result = benchmark(int8, eval_loader(), fp32=model, mode="accuracy")
    assert result.accuracy == pytest.approx(accuracy(int8))
    assert result.fp32_accuracy == pytest.approx(accuracy(model.eval()))
    assert result.table().splitlines()[1].startswith("topk ")


def test_a_metric_and_data_of_the_yaml() -> None:
    result = Benchmark(judged(metric={"topk": 1}, dataloader=DUMMY))(net(), mode="accuracy")
    assert result.accuracy == pytest.approx(share_of(0, net()))


def test_labels_that_are_shifted_and_batches_that_are_counted() -> None:
    given = judged(
        metric={"topk": 1}, dataloader=DUMMY, postprocess={"transform": {"LabelShift": -1}}
    )
    assert Benchmark(given)(net(), mode="accuracy").accuracy == pytest.approx(share_of(1, net()))
    given = judged(metric={"topk": 1}, iteration=1)
    result = Benchmark(given)(net(), eval_loader(), mode="accuracy")
    images, kinds = next(iter(eval_loader()))
    assert result.accuracy == float((net().eval()(images).argmax(1) == kinds).float().mean())


def test_a_metric_of_the_users() -> None:
    benchmark = Benchmark(conf())
    benchmark.b_dataloader = benchmark.dataloader(Numbered(), batch_size=100)
    for put, name in (
        (lambda: benchmark.metric("right", Right), "right"),
        (
            lambda: benchmark.metric("acc", MulticlassAccuracy, num_classes=4, average="micro"),
            "acc",
        ),
        (lambda: setattr(benchmark, "metric", Right), "metric"),
    ):
        put()
        result = benchmark(net(), mode="accuracy")
        assert (result.monitor, result.accuracy) == (name, pytest.approx(accuracy(net().eval())))


def test_int8_is_held_against_what_fp32_gives(quantized) -> None:
    model, int8 = quantized
    benchmark = Benchmark(judged(metric={"MSE": {"compare_label": False}}))
    result = benchmark(int8, eval_loader(), fp32=model, mode="accuracy")
    assert result.fp32_accuracy == 0 < result.accuracy < 1
    with pytest.raises(ConfError, match="there is no such model here"):
        benchmark(int8, eval_loader(), mode="accuracy")


def test_data_without_an_end_to_judge_on() -> None:
    given = judged(metric={"topk": 1}, dataloader=ENDLESS)
    assert 0 <= Benchmark(given)(net(), mode="accuracy").accuracy <= 1


# deploy.yaml


def test_deploy_yaml_is_all_that_is_needed_besides_the_models(workspace) -> None:
    calibration = {"sampling_size": 64}
    given = asked(workspace, tuning=LOOSE, accuracy={"dataloader": DUMMY}, calibration=calibration)
    given["evaluation"]["performance"] = {"warmup": 1, "iteration": 9}
    model = net()
    quantization = Quantization(given)
    quantization(model)
    benchmark = Benchmark(workspace / "deploy.yaml")
    timed = benchmark(workspace, fp32=model)
    assert (timed.label, timed.speed.iterations, timed.speed.batch_size) == ("int8", 8, 16)
    found = benchmark(workspace, fp32=model, mode="accuracy")
    assert found.accuracy == pytest.approx(quantization.result.accuracy)
    assert found.fp32_accuracy == pytest.approx(quantization.result.baseline)


def test_what_is_replaced_is_said(tmp_path) -> None:
    path = tmp_path / "bench.yaml"
    given = judged(metric={"topk": 1}, dataloader=DUMMY, configs={"cores_per_instance": 1})
    path.write_text(yaml.safe_dump(given))
    benchmark = Benchmark(path)
    benchmark.metric("right", Right)
    with pytest.warns(UserWarning, match="without effect") as caught:
        benchmark(net(), eval_loader(), mode="accuracy")
    assert str(caught[0].message) == (
        f"{path}: without effect on a benchmark: `evaluation.accuracy.dataloader` is replaced by"
        " the `b_dataloader`; `evaluation.accuracy.metric` is replaced by the `metric`;"
        " `evaluation.accuracy.configs`: threads and processes change no accuracy."
    )
    assert caught[0].filename == __file__


# What goes wrong


class ForOne(nn.Module):
    """Takes what one model takes, and another does not."""

    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("not for me")


WRONG = {
    "timing": (
        conf(dataloader=LOADER),
        {"model": nn.Linear(3, 3)},
        DataError,
        "`Linear` cannot take a batch of `evaluation.performance.dataloader` (RuntimeError",
    ),
    "timing on the data of the accuracy": (
        judged(metric={"topk": 1}, dataloader=DUMMY),
        {"model": nn.Linear(3, 3)},
        DataError,
        "`Linear` cannot take a batch of `evaluation.accuracy.dataloader` (RuntimeError",
    ),
    "timing on the user's data": (
        conf(),
        {"model": nn.Linear(3, 3), "b_dataloader": [torch.ones(2, 2)]},
        DataError,
        "`Linear` cannot take a batch of `b_dataloader` (RuntimeError",
    ),
    "judging": (
        judged(metric={"topk": 1}, dataloader=DUMMY),
        {"model": nn.Linear(3, 3), "mode": "accuracy"},
        EvaluationError,
        "the metric `topk` cannot be taken of batch 1 of `evaluation.accuracy.dataloader` (Runtime",
    ),
    "judging the second model": (
        judged(metric={"topk": 1}, dataloader=DUMMY),
        {"model": net(), "fp32": ForOne(), "mode": "accuracy"},
        EvaluationError,
        "the metric `topk` cannot be taken of `evaluation.accuracy.dataloader` with a `ForOne`"
        " (RuntimeError: not for me), as it was with another model before",
    ),
    "no labels": (
        judged(metric={"topk": 1}),
        {"model": net(), "b_dataloader": [torch.ones(2, 1, 8, 8)], "mode": "accuracy"},
        DataError,
        "a batch of `b_dataloader` has no label; allowed",
    ),
    "no data to judge on": (
        judged(metric={"topk": 1}),
        {"model": net(), "mode": "accuracy"},
        ConfError,
        "there is no data to show the model: give a `b_dataloader`, a `b_func(model)` that",
    ),
    "not built": (
        conf(dataloader={"dataset": {"COCORaw": {"root": "/data"}}}),
        {"model": net()},
        NotYetError,
        "<mapping>: `evaluation.performance.dataloader`: the data set `COCORaw` is not built yet",
    ),
    "no files": (
        judged(metric={"topk": 1}, dataloader={"dataset": {"ImageFolder": {"root": "nowhere"}}}),
        {"model": net()},
        DataError,
        "<mapping>: `evaluation.accuracy.dataloader`, `dataset`: ",
    ),
}


@pytest.mark.parametrize(("given", "call", "kind", "said"), WRONG.values(), ids=WRONG)
def test_the_origin_of_the_data_is_named(given, call, kind, said: str) -> None:
    with pytest.raises(kind) as caught:
        Benchmark(given)(**call)
    assert str(caught.value).startswith(said)


def test_a_loader_is_no_attribute() -> None:
    with pytest.raises(ConfError, match="such as `calib_dataloader` or `b_dataloader`"):
        Benchmark(conf()).dataloader = eval_loader()
