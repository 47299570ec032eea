"""Metrics that callbacks of the user's log."""

from __future__ import annotations

from threading import Lock
from types import SimpleNamespace
from typing import ClassVar

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, LambdaCallback, ModelCheckpoint
from lit_scenes import Lit, Points, train_loader, trainer, val_loader
from torchmetrics.classification import MulticlassAccuracy

from lpot_lightning import PruningCallback, QATCallback, quantize
from lpot_lightning.errors import EvaluationError
from lpot_lightning.trainer.scorers import scorers

QAT = {"quantization": {"approach": "quant_aware_training"}}


class Answers(Lit):
    """Logs nothing by itself."""

    def validation_step(self, batch, batch_idx):
        return (self.net(batch[0]).argmax(1) == batch[1]).float()


class Scores(pl.Callback):
    """Keeps all answers of a pass in a list, and logs their mean when it is over."""

    def __init__(self) -> None:
        self.hits: list[torch.Tensor] = []
        self.passes = 0

    def on_validation_batch_end(self, trainer, pl_module, outputs, *_):
        self.hits.append(outputs)

    def on_validation_epoch_end(self, trainer, pl_module):
        assert sum(map(len, self.hits)) == 48
        self.passes += 1
        pl_module.log("val_map", torch.cat(self.hits).mean())
        self.hits.clear()


class Shared(Scores):
    """Keeps them in a list of the class."""

    hits: list[torch.Tensor] = []

    def __init__(self) -> None:
        self.passes = 0


class Metric(pl.Callback):
    """Holds a torchmetrics object, and the module that it asks."""

    passes = 1

    def setup(self, trainer, pl_module, stage):
        self.module, self.metric = pl_module, MulticlassAccuracy(3, average="micro")

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, *_):
        self.metric.update(self.module.net(batch[0]), batch[1])

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("val_map", self.metric.compute())
        self.metric.reset()


def again(callback, model):
    """Return what a Trainer of the user's says of a model."""
    one = trainer(callback)
    return one.validate(model, val_loader(), verbose=False)[0]["val_map"]


@pytest.mark.parametrize("kind", [Scores, Shared, Metric])
def test_models_are_judged_by_what_a_callback_logs(callback, kind):
    quantization, scores = callback(monitor="val_map"), kind()
    trainer(scores, quantization, max_epochs=1).fit(Answers(), datamodule=Points())
    assert quantization.result.monitor == "val_map"
    assert quantization.result.accuracy == again(kind(), quantization.result.model)
    assert scores.passes == 1
    assert not getattr(scores, "hits", [])


def test_int8_is_what_a_callback_sees_where_it_has_kept_the_module(callback, monkeypatch):
    quantization, scores, seen = callback(monitor="val_map"), Metric(), set()
    step = Metric.on_validation_batch_end

    def spy(self, trainer, pl_module, *rest):
        seen.add(self.module is pl_module)
        step(self, trainer, pl_module, *rest)

    monkeypatch.setattr(Metric, "on_validation_batch_end", spy)
    module = Answers()
    trainer(scores, quantization, max_epochs=1).fit(module, datamodule=Points())
    assert seen == {True}
    assert scores.module is module


def test_a_checkpoint_that_watches_it_is_followed(callback, tmp_path):
    saver = ModelCheckpoint(tmp_path / "kept", monitor="val_map", mode="max")
    quantization = callback()
    one = trainer(Scores(), saver, quantization, max_epochs=1, enable_checkpointing=True)
    one.fit(Answers(), datamodule=Points())
    assert quantization.result.monitor == "val_map"


def test_a_lambda_callback_may_log_it(callback):
    logs = LambdaCallback(on_validation_epoch_end=lambda _, module: module.log("val_map", 0.5))
    quantization = callback(monitor="val_map")
    trainer(logs, quantization, max_epochs=1).fit(Lit(), datamodule=Points())
    assert quantization.result.accuracy == 0.5


def test_training_for_int8_and_pruning_begin_with_it(workspace):
    from lit_scenes import conf
    from sparse_scenes import pruning_conf

    callbacks = (
        QATCallback(conf(workspace, **QAT), monitor="val_map"),
        PruningCallback(pruning_conf(workspace), monitor="val_map"),
    )
    for one in callbacks:
        trainer(Scores(), one, max_epochs=4).fit(Answers(), datamodule=Points())
        assert one.result.monitor == "val_map"


def test_without_a_fit_it_is_found_too(workspace):
    from lit_scenes import conf

    result = quantize(
        trainer(Scores()),
        Answers(),
        train_loader(),
        val_loader(),
        conf=conf(workspace),
        monitor="val_map",
    )
    assert (result.monitor, result.accuracy) == ("val_map", again(Scores(), result.model))


def test_a_callback_that_fails_in_such_a_pass_is_told(callback):
    class Fails(Scores):
        def on_validation_epoch_end(self, trainer, pl_module):
            super().on_validation_epoch_end(trainer, pl_module)
            if self.passes > 1:
                raise KeyError("twice")

    one = trainer(Fails(), callback(monitor="val_map"), max_epochs=1)
    with pytest.raises(EvaluationError, match="with `Fails` to log the metric, .KeyError: 'twice'"):
        one.fit(Answers(), datamodule=Points())


def test_what_lightning_brings_along_logs_nothing():
    mine = Scores()
    found = scorers([EarlyStopping("val_map"), ModelCheckpoint(), pl.Callback(), mine])
    assert found == [mine]


def test_a_subclass_of_what_ends_the_training_is_left_alone():
    class Stops(EarlyStopping):
        def on_validation_epoch_end(self, trainer, pl_module):
            raise AssertionError

    assert scorers([Stops("val_map")]) == []


class Counts(Scores):
    """Counts in all kinds of attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tensor, self.inner = {"sum": torch.zeros(1)}, SimpleNamespace(count=0)

    def on_validation_batch_end(self, trainer, pl_module, outputs, *_):
        super().on_validation_batch_end(trainer, pl_module, outputs)
        self.tensor["sum"] += 1
        self.inner.count += 1


def test_what_a_callback_counts_is_that_of_the_fit(callback):
    counts = Counts()
    trainer(counts, callback(monitor="val_map"), max_epochs=1).fit(Answers(), datamodule=Points())
    assert (counts.tensor["sum"].item(), counts.inner.count, counts.passes) == (3, 3, 1)


def test_one_that_cannot_be_copied_is_put_back(callback):
    scores = Scores()
    scores.lock = Lock()
    trainer(scores, callback(monitor="val_map"), max_epochs=1).fit(Answers(), datamodule=Points())
    assert (scores.passes, scores.hits) == (1, [])


class Collects(pl.Callback):
    hits: ClassVar[list[torch.Tensor]] = []

    def on_validation_batch_end(self, trainer, pl_module, outputs, *_):
        self.hits.append(outputs)


class Logs(pl.Callback):
    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("val_map", torch.cat(Collects.hits).mean())
        Collects.hits.clear()


def test_two_that_need_each_other_log_it_together(callback):
    quantization = callback(monitor="val_map")
    one = trainer(Collects(), Logs(), quantization, max_epochs=1)
    one.fit(Answers(), datamodule=Points())
    assert quantization.result.monitor == "val_map"


def test_one_of_a_kind_of_lightnings_is_told(callback):
    class Stops(EarlyStopping):
        def on_validation_epoch_end(self, trainer, pl_module):
            pl_module.log("val_map", 0.5)

    one = trainer(Stops("val_map"), callback(monitor="val_map"), max_epochs=1)
    with pytest.raises(EvaluationError, match="logged in the fit, and not where models are judged"):
        one.fit(Lit(), datamodule=Points())


def test_who_logs_nothing_is_not_asked(workspace, tmp_path):
    from lit_scenes import conf

    class Spy(pl.Callback):
        calls = 0

        def on_validation_batch_end(self, *_):
            Spy.calls += 1

    saver = ModelCheckpoint(tmp_path / "kept", monitor="train_loss")
    one = trainer(Spy(), saver, enable_checkpointing=True)
    quantize(one, Lit(), train_loader(), val_loader(), conf=conf(workspace))
    assert Spy.calls == 0
