"""What cannot work is told in one sentence, early, and leaves nothing behind."""

import sys
import threading
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lit_scenes import (
    Lit,
    LossLit,
    Points,
    conf,
    files_in,
    fitted,
    train_loader,
    trainer,
    val_loader,
)
from torch import nn
from torch.utils.data import DataLoader

from lpot_lightning import QuantizationCallback, quantize
from lpot_lightning.errors import (
    ArtifactError,
    ConfError,
    DataError,
    EvaluationError,
    LpotError,
    QuantizationError,
)


def refused(quantization, kind: type[LpotError], *fit, **given) -> str:
    """Fit, and return the text of the error; check that nothing is left behind."""
    with pytest.raises(kind) as told:
        fitted(quantization, *fit, **given)
    assert quantization.result is None
    asked = quantization.conf.tuning.workspace.path
    assert not Path(asked).is_dir() or files_in(Path(asked)) == []
    return str(told.value)


def never_trained(quantization, kind: type[LpotError], **given) -> str:
    """Return the text of an error that comes before any training."""

    class Untouched(Lit):
        def on_fit_start(self):
            raise AssertionError("too late")

    with pytest.raises(kind) as told:
        trainer(quantization, **given).fit(Untouched(), train_loader(), val_loader())
    return str(told.value)


class Fixed(Lit):
    """Logs always the same."""

    value = 1.0

    def validation_step(self, batch, batch_idx):
        self.net(batch[0])
        self.log("val_acc", torch.tensor(self.value))


def test_a_strategy_whose_packages_are_missing_is_told_at_once(callback, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfError, match=r"`tpe`, which needs `optuna`.*lpot-lightning\[optuna\]"):
        callback(tuning={"strategy": {"name": "tpe"}})


def test_no_validation_step(callback):
    class Blind(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Lit().net

        training_step, configure_optimizers = Lit.training_step, Lit.configure_optimizers
        hparams = {"lr": 0.0}

    Blind.configure_optimizers = lambda self: torch.optim.SGD(self.parameters(), lr=0.0)
    said = refused(callback(), EvaluationError, Blind(), train_loader())
    assert said.startswith("`Blind` has no `validation_step`: the validation loop is what int8")


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
def test_no_validation_data(callback):
    said = refused(callback(), EvaluationError, Lit(), train_loader())
    assert "there is no validation data: pass `val_dataloaders`" in said


def test_validation_switched_off(callback):
    said = refused(callback(), EvaluationError, limit_val_batches=0)
    assert "leave `limit_val_batches` above 0" in said


@pytest.mark.filterwarnings("ignore:Total length of .* is zero")
def test_empty_validation_data(callback):
    empty = DataLoader([], batch_size=2)
    said = refused(callback(), DataError, Lit(), train_loader(), empty)
    assert said == "the validation dataloader is empty: there is no batch to judge by"


@pytest.mark.filterwarnings("ignore:Total length of .* is zero")
def test_empty_training_data(callback):
    empty = DataLoader([], batch_size=2)
    said = refused(callback(), DataError, Lit(), empty, val_loader())
    assert said == "the training data has no batch to calibrate on"


def test_nothing_logged(callback):
    class Silent(Lit):
        def validation_step(self, batch, batch_idx):
            self.net(batch[0])

    assert "the validation loop logs nothing" in refused(callback(), EvaluationError, Silent())


def test_a_wrong_monitor(callback):
    said = refused(callback(monitor="val_hit"), EvaluationError, LossLit())
    assert "it logs `val_hits`, `val_loss`. Did you mean `val_hits`?" in said


def test_several_metrics_and_no_monitor(callback):
    said = refused(callback(), EvaluationError, LossLit())
    assert "say which one is the accuracy with `monitor`" in said


def test_a_direction_that_is_contradicted(callback):
    quantization = callback(tuning={"accuracy_criterion": {"relative": 0.01}}, monitor="val_acc")
    said = refused(quantization, ConfError, others=(EarlyStopping("val_acc", mode="min"),))
    assert "whether a higher `val_acc` is better is contradicted" in said


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_baseline_that_is_no_number(callback, value):
    module = Fixed()
    module.value = value
    said = refused(callback(), EvaluationError, module)
    assert f"the fp32 model's `val_acc` is {value}, so there is nothing to tune by" in said


def test_a_relative_goal_at_a_baseline_of_zero(callback):
    module = Fixed()
    module.value = 0.0
    said = refused(callback(), ConfError, module)
    assert "the baseline accuracy is 0; use `absolute`" in said


def test_no_quantizable_op(callback):
    class Bare(Fixed):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.BatchNorm1d(8)

    said = refused(callback(), QuantizationError, Bare())
    assert "no op of `Bare` can be quantized" in said


def test_modules_that_match_nothing(callback):
    said = refused(callback(modules=["nett"]), ConfError)
    assert "`modules` has `nett`, which matches no module" in said
    assert "Did you mean `net`?" in said


def test_an_op_wise_key_that_matches_nothing(callback):
    wish = {"activation": {"dtype": ["fp32"]}}
    said = refused(callback(quantization={"op_wise": {"nett.0": wish}}), ConfError)
    assert "nett.0" in said
    assert "Did you mean `net.0`?" in said


@pytest.mark.parametrize("given", ["net", [1], [None]])
def test_modules_that_are_no_list_of_names(given):
    with pytest.raises(ConfError, match="`modules` is .*; allowed: a list of names or globs"):
        QuantizationCallback(conf(), modules=given)


@pytest.mark.parametrize(("name", "near"), [("calib", "trian"), ("ckpt", "bset")])
def test_a_choice_that_does_not_exist(name, near):
    with pytest.raises(ConfError, match=f"`{name}` is `{near}`; allowed: .*Did you mean"):
        QuantizationCallback(conf(), **{name: near})


def test_a_file_is_no_choice_of_a_fit():
    with pytest.raises(ConfError, match="`ckpt` is `best.ckpt`; allowed: .*quantize.*ckpt_path="):
        QuantizationCallback(conf(), ckpt="best.ckpt")


def test_a_conf_with_an_unknown_key():
    with pytest.raises(ConfError, match="tunning"):
        QuantizationCallback({**conf(), "tunning": {}})


def test_a_conf_that_is_not_there():
    with pytest.raises(ConfError, match="none.yaml"):
        QuantizationCallback("none.yaml")


def test_a_conf_for_another_callback():
    with pytest.raises(ConfError, match="use `QATCallback`"):
        QuantizationCallback(conf(quantization={"approach": "quant_aware_training"}))


def test_a_file_in_the_way_of_the_workspace(callback, workspace):
    workspace.write_text("mine")
    said = never_trained(callback(), ArtifactError)
    assert f"cannot write to the workspace `{workspace}`" in said
    assert "give another one in `tuning.workspace.path`" in said
    assert workspace.read_text() == "mine"


def test_barebones(callback):
    bare = pl.Trainer(barebones=True, max_epochs=0, accelerator="cpu", callbacks=[callback()])
    with pytest.raises(EvaluationError, match=r"`Trainer\(barebones=True\)` logs nothing"):
        bare.fit(Lit(), train_loader(), val_loader())


def test_two_of_them(callback):
    one = trainer(callback(), callback())
    with pytest.raises(ConfError, match="the Trainer has 2 callbacks that quantize .* keep one"):
        one.fit(Lit(), train_loader(), val_loader())


def test_a_module_that_cannot_be_copied(callback):
    module = Lit()
    module.lock = threading.Lock()
    said = refused(callback(), QuantizationError, module)
    assert "`Lit` cannot be copied, and what is made of it is a second object" in said
    assert "keep what cannot be copied out of the module" in said


def test_a_step_that_takes_neither_training_nor_validation_batches(callback):
    class Faulty(Lit):
        def validation_step(self, batch, batch_idx):
            raise ValueError("not me")

    said = refused(callback(), EvaluationError, Faulty())
    assert said == "the validation loop fails: ValueError: not me"


def test_a_step_that_fails_on_a_later_calibration_batch(callback):
    class Late(Lit):
        def validation_step(self, batch, batch_idx):
            assert batch_idx < 4, "too many"
            super().validation_step(batch, batch_idx)

    said = refused(callback(), DataError, Late())
    assert "`validation_step` fails on a batch of the training data (AssertionError: too" in said
    assert "calibrate on other data, with `calib='val'` or a `calib_dataloader()`" in said


def test_a_vector_where_a_number_is_expected(callback):
    class Vector(Lit):
        def validation_step(self, batch, batch_idx):
            self.net(batch[0])
            self.log("val_acc", 1.0)
            self.log("per_class", torch.ones(3), on_epoch=True)

    said = refused(callback(), EvaluationError, Vector())
    assert "the validation loop fails: ValueError: `self.log(per_class" in said
    assert "must have a single element" in said


def test_a_history_that_is_damaged(callback, workspace):
    fitted(callback())
    path = workspace / "history.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0].replace(b"header", b"herring") + b"".join(lines[1:]))
    quantization = callback()
    with pytest.raises(ArtifactError, match=r"history.jsonl"):
        fitted(quantization)
    assert quantization.result is None


def test_a_history_of_another_run_that_is_to_be_resumed(callback, workspace, tmp_path):
    fitted(callback())
    resume = {"workspace": {"path": str(workspace), "resume": str(workspace)}}
    asked = conf(tuning=resume)
    other = Lit()
    other.net[0].weight.data += 0.01
    with pytest.raises(ArtifactError, match="belongs to another run: different are weights"):
        fitted(QuantizationCallback(asked), other)


def test_a_failed_run_is_no_obstacle_for_the_next(callback):
    quantization = callback(monitor="val_ac")
    refused(quantization, EvaluationError)
    quantization.monitor = "val_acc"
    fitted(quantization, datamodule=Points())
    assert quantization.result.status == "met"


class Trained(Lit):
    """Counts its training steps."""

    steps = 0

    def training_step(self, batch, batch_idx):
        Trained.steps += 1
        return super().training_step(batch, batch_idx)


def refused_untrained(one, module, error, match, **data):
    Trained.steps = 0
    with pytest.raises(error, match=match):
        one.fit(module, **data)
    assert Trained.steps == 0


@pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader`")
def test_a_validation_that_cannot_be_is_told_before_any_training(callback):
    class Blind(Trained):
        validation_step = pl.LightningModule.validation_step

    once = {"max_epochs": 1}
    refused_untrained(
        trainer(callback(), **once), Blind(), EvaluationError, "no `validation_step`",
        datamodule=Points(),
    )  # fmt: skip
    refused_untrained(
        trainer(callback(), **once), Trained(), EvaluationError, "there is no validation data",
        train_dataloaders=train_loader(),
    )  # fmt: skip
    off = trainer(callback(), limit_val_batches=0, **once)
    refused_untrained(
        off, Trained(), EvaluationError, "`limit_val_batches` above 0", datamodule=Points()
    )


def test_names_that_no_module_has_are_told_before_any_training(callback):
    wish = {"activation": {"dtype": ["fp32"]}}
    bad_key = callback(quantization={"op_wise": {"net.O": wish}})
    for one, match in ((bad_key, "op_wise.net.O` matches"), (callback(modules=["nit"]), "`nit`")):
        refused_untrained(
            trainer(one, max_epochs=1), Trained(), ConfError, match, datamodule=Points()
        )


def test_the_last_checkpoint_of_a_checkpoint_that_keeps_none(callback):
    keeping = ModelCheckpoint(monitor="val_acc", mode="max")
    one = trainer(callback(ckpt="last"), keeping, max_epochs=1, enable_checkpointing=True)
    refused_untrained(one, Trained(), ConfError, "`save_last=True`", datamodule=Points())


def test_a_monitor_that_is_no_name(callback):
    with pytest.raises(ConfError, match="`monitor` is `3`"):
        callback(monitor=3)


def test_a_conf_that_keeps_everything_in_fp32(callback, workspace):
    wish = {"weight": {"dtype": ["fp32"]}}
    said = refused(callback(quantization={"op_wise": {".*": wish}}), ConfError)
    assert "no op is left that may be int8" in said
    assert files_in(workspace) == []


def test_weights_that_are_no_numbers_are_not_blamed_on_the_data(callback):
    module = Lit()
    with torch.no_grad():
        module.net[0].weight[0, 0] = float("nan")
    with pytest.raises(QuantizationError, match=r"net\.0: its weight is not finite") as told:
        trainer(callback()).fit(module, train_loader(), val_loader())
    assert "fails on a batch" not in str(told.value)


def test_a_model_that_is_int8_already(tmp_path, callback):
    one = callback()
    trainer(one).fit(Lit(), train_loader(), val_loader())
    with pytest.raises(QuantizationError, match="`net.0` is int8 already; quantize the fp32 model"):
        quantize(trainer(), one.result.model, val_dataloaders=val_loader(), conf=conf(tmp_path))


def test_a_module_that_is_no_lightning_module(tmp_path):
    with pytest.raises(EvaluationError, match="a `Linear` is no LightningModule"):
        quantize(trainer(), nn.Linear(2, 2), val_dataloaders=val_loader(), conf=conf(tmp_path))
