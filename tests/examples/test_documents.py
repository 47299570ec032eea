"""The API as LPOT's documents write it down; only the imports are others."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lpot_lightning import Benchmark, Metric, Pruning, Quantization, load
from lpot_lightning.conf.reader import read_conf

BLENDCNN = """
model:                                               # mandatory
  name: blendcnn
  framework: pytorch

tuning:
  accuracy_criterion:
    relative:  0.01                                  # optional
  exit_policy:
    timeout: 0                                       # optional
  random_seed: 9527                                  # optional
"""
KEPT = """
tuning:
  workspace:
    path: {path}
"""
BY_YAML = """
quantization:
  calibration:
    sampling_size: 20
    dataloader: &numbers
      batch_size: 10
      dataset: {dummy: {shape: [40, 8], low: 0.0, high: 2.0, label: true}}
evaluation:
  accuracy:
    metric: {topk: 1}
    dataloader: *numbers
"""
PRUNE = """
model: {name: points, framework: pytorch}
pruning:
  approach:
    weight_compression:
      initial_sparsity: 0.0
      target_sparsity: 0.5
      start_epoch: 0
      end_epoch: 2
      pruners:
        - !Pruner
            prune_type: basic_magnitude
            names: ['0.weight']
"""
X = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
Y = (X.sum(1) < 0).long()


class dataset:
    def __init__(self, *args: Any) -> None:
        self.x, self.y = args

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.x[index], int(self.y[index])

    def __len__(self) -> int:
        return len(self.x)


class streamed:
    def __init__(self, *args: Any) -> None:
        self.x, self.y = args

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return zip(self.x, self.y.tolist(), strict=True)


class metric(Metric):
    def __init__(self, *args: Any) -> None:
        self.reset()

    def update(self, predict: Tensor, label: Tensor) -> None:
        self.right += int((predict.argmax(1) == label).sum())
        self.seen += len(label)

    def reset(self) -> None:
        self.right = self.seen = 0

    def result(self) -> float:
        return self.right / self.seen


class Bert_DataLoader:
    def __init__(self, loader: Any = None, model_type: Any = None, batch_size: int = 1) -> None:
        self.loader, self.batch_size = loader, batch_size

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        yield from self.loader


def points() -> nn.Module:
    """A sum of eight numbers that is below zero is kind 1."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(8) + 0.01 * torch.arange(64).reshape(8, 8) / 64)
        model[0].bias.zero_()
        model[1].weight.copy_(torch.tensor([[1.0], [-1.0]]).expand(2, 8))
        model[1].bias.zero_()
    return model


def eval_func(model: nn.Module) -> Tensor:
    return (model(X).argmax(1) == Y).float().mean()


@pytest.fixture
def user_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the YAML is written; files of a run go below its folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "user.yaml"
    path.write_text(BLENDCNN)
    return path


def test_the_signatures() -> None:
    def names(function: Any) -> list[str]:
        return list(inspect.signature(function).parameters)

    call = ["model", "q_dataloader", "q_func", "eval_dataloader", "eval_func"]
    assert names(Quantization.__call__)[1:6] == call
    assert names(Pruning.__call__)[1:6] == call
    assert names(Benchmark.__call__)[1:4] == ["model", "b_dataloader", "b_func"]
    assert names(load)[:3] == ["tune_cfg_file", "weights_file", "model"]
    assert names(Pruning.on_epoch_begin) == ["self", "epoch"]
    assert names(Pruning.on_batch_begin) == ["self", "batch_id"]
    assert names(Pruning.on_batch_end) == names(Pruning.on_epoch_end) == ["self"]
    for one in (Quantization, Pruning, Benchmark):
        assert "conf_fname" in names(one.__init__)


def test_blendcnn_by_attributes_and_a_bare_call(user_yaml: Path) -> None:
    model, batches = points(), DataLoader(TensorDataset(X, Y), 32)
    dataloader = Bert_DataLoader(loader=batches, batch_size=32)
    quantizer = Quantization(str(user_yaml))
    quantizer.model = model
    quantizer.calib_dataloader = dataloader
    quantizer.eval_func = eval_func
    q_model = quantizer()
    assert float(eval_func(q_model)) >= 0.99 * float(eval_func(model))
    assert quantizer.result.status == "met"
    assert user_yaml.read_text() == BLENDCNN


def test_the_yaml_of_the_example_says_what_the_document_says() -> None:
    example = Path(__file__).parents[2] / "examples" / "blendcnn" / "blendcnn.yaml"
    assert yaml.safe_load(example.read_text()) == yaml.safe_load(BLENDCNN)
    conf = read_conf(example)
    assert conf.tuning.accuracy_criterion.relative == 0.01
    assert (conf.tuning.exit_policy.timeout, conf.tuning.random_seed) == (0, 9527)


@pytest.mark.parametrize("kind", [dataset, streamed])
def test_a_dataset_and_a_metric_by_code(user_yaml: Path, kind: Any) -> None:
    quantizer = Quantization(str(user_yaml))
    dataloader = quantizer.dataloader(kind(X, Y), batch_size=100)
    quantizer.metric("metric", metric)
    q_model = quantizer(points(), q_dataloader=dataloader, eval_dataloader=dataloader)
    assert quantizer.result.monitor == "metric"
    assert quantizer.result.accuracy == pytest.approx(float(eval_func(q_model)))


def test_all_of_it_by_yaml(user_yaml: Path) -> None:
    user_yaml.write_text(BLENDCNN + BY_YAML)
    quantizer = Quantization(str(user_yaml))
    q_model = quantizer(points())
    assert quantizer.result.monitor == "topk"
    assert quantizer.result.status == "met"
    assert q_model(X).shape == (200, 2)


@pytest.mark.parametrize("path", [None, "kept/here"])
def test_loading_what_was_tuned(user_yaml: Path, path: str | None) -> None:
    folder = "./lpot_workspace/pytorch/blendcnn/" if path is None else path
    if path is not None:
        user_yaml.write_text(BLENDCNN.replace("\ntuning:", KEPT.format(path=path).rstrip()))
    model = points()
    q_model = Quantization(str(user_yaml))(
        model, q_dataloader=DataLoader(TensorDataset(X, Y), 32), eval_func=eval_func
    )
    quantized_model = load(
        os.path.join(folder, "best_configure.yaml"),
        os.path.join(folder, "best_model_weights.pt"),
        model,
    )
    assert torch.equal(quantized_model(X), q_model(X))
    assert (Path(folder) / "deploy.yaml").is_file()


def test_benchmark_by_loader_and_by_function(user_yaml: Path) -> None:
    benchmark = Benchmark(str(user_yaml))
    result = benchmark(points(), b_dataloader=DataLoader(TensorDataset(X, Y), 50))
    assert result.speed.batch_size == 50
    assert benchmark(points(), b_func=eval_func).accuracy == 1.0


@pytest.mark.parametrize("way", ["hooks", "q_func"])
def test_pruning_by_hooks(user_yaml: Path, way: str) -> None:
    user_yaml.write_text(PRUNE)
    prune = Pruning(str(user_yaml))

    def training_func(model: nn.Module) -> None:
        adam = torch.optim.Adam(model.parameters(), lr=0.001)
        for epoch in range(3):
            prune.on_epoch_begin(epoch)
            for batch_id in range(4):
                prune.on_batch_begin(batch_id)
                adam.zero_grad()
                nn.functional.cross_entropy(model(X), Y).backward()
                adam.step()
                prune.on_batch_end()
            prune.on_epoch_end()

    model = points()
    if way == "hooks":
        prune.model = model
        training_func(model)
        pruned = model
    else:
        pruned = prune(model, q_func=training_func, eval_func=eval_func)
    assert int((pruned[0].weight == 0).sum()) == 32


def test_every_test_that_the_page_names_is_there() -> None:
    root = Path(__file__).parents[2]
    named = re.findall(
        r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (root / "docs/from-lpot.md").read_text()
    )
    assert len(named) > 15
    for file, test in named:
        assert f"def {test}" in (root / file).read_text()
