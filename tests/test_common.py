"""Scripts in the way of LPOT 1.5 and 1.6, which wrap what they give in `common`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from plain_scenes import accuracy, conf, corners, eval_loader, net, train_loader
from torch import nn
from torch.utils.data import DataLoader

import lpot_lightning
from lpot_lightning import Benchmark, ConfError, Pruning, Quantization, common, load


class Correct:
    def __init__(self) -> None:
        self.reset()

    def update(self, predict, label) -> None:
        self.right += int((predict.argmax(1) == label).sum())
        self.seen += len(label)

    def reset(self) -> None:
        self.right = self.seen = 0

    def result(self) -> float:
        return self.right / self.seen


def test_a_script_of_lpot_runs_with_another_import(workspace: Path) -> None:
    quantizer = Quantization(conf(workspace))
    quantizer.model = common.Model(net())
    quantizer.calib_dataloader = common.DataLoader(corners(128, seed=0), batch_size=32)
    quantizer.eval_dataloader = common.DataLoader(corners(400, seed=1), batch_size=50)
    quantizer.metric = common.Metric(Correct, "correct")
    q_model = quantizer()
    assert quantizer.result.monitor == "correct"
    q_model.save("saved")
    restored = load("saved/best_configure.yaml", "saved/best_model_weights.pt", net())
    images = corners(400, seed=1).tensors[0]
    assert torch.equal(restored(images), q_model(images))

    evaluator = Benchmark(conf(workspace))
    evaluator.model = common.Model(q_model)
    evaluator.b_func = accuracy
    assert evaluator("accuracy").accuracy == pytest.approx(quantizer.result.accuracy, abs=1e-6)


def test_a_model_is_left_as_it_is() -> None:
    model = net()
    assert common.Model(model) is model
    with pytest.warns(UserWarning, match="`prepare_custom_config_dict` is for torch's FX quant"):
        assert common.Model(model, prepare_custom_config_dict={}) is model
    with pytest.raises(ConfError, match="`model` is a `str`; allowed: an `nn.Module` with its tr"):
        common.Model("frozen.pb")


def test_a_metric_has_lpots_name_where_none_is_given(workspace: Path) -> None:
    one = Quantization(conf(workspace))
    one.metric = common.Metric(Correct)
    one(net(), train_loader(), eval_dataloader=eval_loader())
    assert one.result.monitor == "user_metric"


def test_a_data_set_by_name(workspace: Path) -> None:
    quantizer = Quantization(conf(workspace))
    dataset = quantizer.dataset("dummy", shape=(10, 1, 8, 8), label=True)
    assert len(dataset) == 10
    batches = common.DataLoader(dataset, batch_size=5)
    assert isinstance(batches, DataLoader)
    assert [batch.shape for batch, _ in batches] == [(5, 1, 8, 8)] * 2
    with pytest.raises(ConfError, match="`dataset.dummy.shpe` is not a known key.*mean `shape`"):
        quantizer.dataset("dummy", shpe=(10, 1))


def test_what_is_not_here_says_what_to_do() -> None:
    with pytest.raises(AttributeError, match="has no `Postprocess`: change outputs and labels in"):
        _ = common.Postprocess
    with pytest.raises(AttributeError, match="has no `Modle`. Did you mean `Model`?"):
        _ = common.Modle


def test_it_is_there_when_it_is_asked_for() -> None:
    assert lpot_lightning.common is common
    assert "common" in dir(lpot_lightning)


PRUNING = {
    "model": {"name": "net", "framework": "pytorch"},
    "pruning": {"approach": {"weight_compression": {"end_epoch": 1, "pruners": [{}]}}},
}


def test_pruning_func_and_train_dataloader(workspace: Path) -> None:
    asked = {**PRUNING, "tuning": {"workspace": {"path": str(workspace)}}}
    prune, epochs = Pruning(asked), []

    def train(model: nn.Module) -> None:
        for epoch in range(2):
            prune.on_epoch_begin(epoch)
            prune.on_batch_begin(0)
            prune.on_batch_end()
            prune.on_epoch_end()
            epochs.append(epoch)

    prune.model = common.Model(net())
    prune.pruning_func = train
    prune.train_dataloader = loader = train_loader()
    prune.eval_func = accuracy
    assert (prune.q_func, prune.pruning_func, prune.q_dataloader) == (train, train, loader)
    pruned = prune()
    assert epochs == [0, 1]
    pruned.save("saved")
    names = ["pruned_configure.yaml", "pruned_model_weights.pt"]
    assert sorted(path.name for path in Path("saved").iterdir()) == names
