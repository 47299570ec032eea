"""One callback on a real Trainer."""

import copy
import itertools
import json
import logging

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lit_scenes import (
    Lit,
    LossLit,
    Points,
    conf,
    fitted,
    same,
    train_loader,
    trainer,
    val_loader,
    weights_of,
)

from lpot_lightning import QuantizationCallback
from lpot_lightning.quantization import op_profile


class Spy(pl.Callback):
    """Counts what it hears of validation."""

    def __init__(self):
        self.batches = self.epochs = 0

    def on_validation_batch_end(self, *_):
        self.batches += 1

    def on_validation_epoch_end(self, *_):
        self.epochs += 1


def test_a_pretrained_module_is_quantized_without_training(callback, workspace):
    quantization, module = callback(), Lit()
    fitted(quantization, module)
    result = quantization.result
    assert (result.status, result.monitor, result.baseline) == ("met", "val_acc", 1.0)
    assert result.int8_ops == ("net.0", "net.2")
    assert result.workspace == workspace
    assert result.model is not module
    assert not result.model.training


def test_what_an_lpot_yaml_has_for_other_places_is_a_warning_and_the_fit_goes_on(callback):
    asked = {
        "sampling_size": "4, 8",
        "dataloader": {"dataset": {"COCONpy": {"root": "/nowhere", "npy_dir": "a"}}},
    }
    every = {"weight": {"scheme": "asym"}, "activation": {"dtype": "int8, fp32"}}
    with pytest.warns(UserWarning, match="^<mapping>: ") as caught:
        quantization = callback(
            quantization={"calibration": asked, "model_wise": every},
            tuning={"tensorboard": True},
            evaluation={"accuracy": {"metric": {"COCOmAP": {}}}},
        )
    assert ["leaves this to others" in str(one.message) for one in caught] == [False, True]
    fitted(quantization)
    assert (quantization.result.status, quantization.result.fp32_ops) == ("met", ())


def test_the_int8_model_is_tested_validated_and_predicted_by_any_trainer(callback):
    quantization = callback()
    fitted(quantization)
    model = quantization.result.model
    assert trainer().test(model, val_loader(), verbose=False) == [{"val_acc": 1.0}]
    assert trainer().validate(model, val_loader(), verbose=False) == [{"val_acc": 1.0}]
    assert len(trainer().predict(model, val_loader())) == 3


def test_a_copy_of_the_int8_model_works_like_the_model_itself(callback):
    quantization = callback()
    fitted(quantization)
    copied = copy.deepcopy(quantization.result.model)
    assert trainer().validate(copied, val_loader(), verbose=False) == [{"val_acc": 1.0}]


def test_after_a_real_epoch_the_module_has_its_trained_weights(callback):
    quantization, module = callback(), Lit(lr=0.01)
    before = weights_of(module)
    fitted(quantization, module, max_epochs=1, num_sanity_val_steps=2)
    assert not same(before, weights_of(module))
    assert quantization.result.status == "met"


def test_a_datamodule_is_set_up_by_the_fit_and_not_again(callback):
    quantization, data = callback(), Points()
    fitted(quantization, datamodule=data)
    assert data.stages == ["fit"]
    assert quantization.result.status == "met"


def test_other_callbacks_hear_of_their_own_validation_and_no_more(callback):
    spy = Spy()
    fitted(callback(), others=(spy,), max_epochs=1)
    assert (spy.epochs, spy.batches) == (1, 3)


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_the_model_is_judged_in_float32_however_it_was_trained(callback, precision):
    class Typed(Lit):
        def validation_step(self, batch, batch_idx):
            super().validation_step(batch, batch_idx)
            seen.append((torch.is_autocast_enabled("cpu"), self.trainer.precision_plugin.precision))

    seen = []
    fitted(callback(), Typed(), precision=precision)
    assert set(seen) == {(False, "32-true")}


def test_the_monitor_and_its_direction_come_from_early_stopping(callback):
    stopping = EarlyStopping("val_loss", mode="min")
    quantization = callback(tuning={"accuracy_criterion": {"absolute": 0.5}})
    fitted(quantization, LossLit(), others=(stopping,))
    assert quantization.result.monitor == "val_loss"
    assert not quantization.result.criterion.higher_is_better


def test_loggers_get_scalars_of_their_own_and_the_users_keep_their_lines(callback, tmp_path):
    quantization = callback()
    logger = CSVLogger(tmp_path / "csv")
    fitted(quantization, Lit(lr=0.01), logger=logger, max_epochs=1, log_every_n_steps=1)
    head, *lines = (tmp_path / "csv/lightning_logs/version_0/metrics.csv").read_text().splitlines()
    names = head.split(",")
    rows = [dict(zip(names, line.split(","), strict=True)) for line in lines]
    assert {name for name in names if name.startswith("lpot/")} == {
        "lpot/baseline",
        "lpot/fp32_ops",
        "lpot/int8_accuracy",
        "lpot/int8_drop",
        "lpot/objective",
        "lpot/seconds",
        "lpot/size_ratio",
        "lpot/speedup",
        "lpot/target",
        "lpot/val_acc",
    }
    assert len([row for row in rows if row["val_acc"]]) == 1
    assert {row["step"] for row in rows if row["lpot/val_acc"]} == {"9"}


def test_one_line_a_trial_is_said_and_a_table_printed(callback, caplog, capsys):
    caplog.set_level(logging.INFO)
    fitted(callback())
    assert "trial 1: 2 ops int8, 0 fp32: val_acc 1.0000, met" in caplog.text
    assert "int8 val_acc       1.0000" in capsys.readouterr().out


def test_a_fast_dev_run_is_one_quick_pass_and_writes_nothing(callback, workspace, tmp_path):
    quantization = callback(quantization={"calibration": {"sampling_size": 64}})
    fitted(quantization, fast_dev_run=True)
    assert quantization.result.workspace is None
    assert quantization.result.evaluations == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")
def test_a_resumed_fit_is_quantized(callback, tmp_path):
    def saving():
        return ModelCheckpoint(tmp_path / "kept", save_last=True)

    given = {"enable_checkpointing": True, "max_epochs": 1}
    trainer(saving(), **given).fit(Lit(lr=0.01), train_loader(), val_loader())
    quantization = callback()
    last = str(tmp_path / "kept/last.ckpt")
    module = Lit(lr=0.01)
    fitted(quantization, module, others=(saving(),), ckpt_path=last, **given | {"max_epochs": 2})
    assert module.current_epoch == 2
    assert quantization.result.status == "met"


def test_a_second_run_replays_the_trials_of_the_first(callback, workspace):
    class Counting(Lit):
        def on_validation_epoch_start(self):
            passes.append(1)

    passes = []
    quantization = callback(tuning={"accuracy_criterion": {"absolute": -2.0}})
    fitted(quantization, Counting())
    first = quantization.result
    count = len(passes)
    again = callback(tuning={"accuracy_criterion": {"absolute": -2.0}})
    fitted(again, Counting())
    assert all(trial.replayed for trial in again.result.trials)
    assert [t.recipe for t in again.result.trials] == [t.recipe for t in first.trials]
    assert len(passes) - count == count - len(first.trials)


def test_other_weights_start_a_new_history_and_keep_the_old_one(callback, workspace, caplog):
    caplog.set_level(logging.INFO)
    fitted(callback())
    other = Lit()
    other.net[0].weight.data *= 1.01
    fitted(callback(), other)
    assert (workspace / "earlier" / "1" / "best_quantized.ckpt").exists()
    assert "different are weights" in caplog.text


def test_the_same_weights_from_another_file_go_on_with_the_history(callback, tmp_path, workspace):
    for name in ("one", "two"):
        saver = ModelCheckpoint(tmp_path / name)
        quantization = callback()
        fitted(quantization, others=(saver,), enable_checkpointing=True, max_epochs=1)
    assert quantization.result.trials[0].replayed
    assert not (workspace / "earlier").exists()


def test_a_second_fit_with_the_same_callback_forgets_the_first(callback):
    quantization, module = callback(), Lit(lr=0.01)
    one = fitted(quantization, module)
    first = quantization.result
    one.fit_loop.max_epochs = 1
    one.fit(module, train_loader(), val_loader())
    assert quantization.watched == 2
    assert quantization.result is not first
    assert quantization.result.status == "met"


def test_nothing_happens_outside_of_a_fit(callback, workspace):
    quantization = callback()
    one = trainer(quantization)
    one.validate(Lit(), val_loader(), verbose=False)
    one.test(Lit(), val_loader(), verbose=False)
    assert quantization.result is None
    assert not workspace.exists()


def test_only_the_modules_asked_for_are_quantized(callback):
    quantization = callback(modules=["net.0"])
    fitted(quantization)
    assert quantization.result.int8_ops == ("net.0",)
    assert quantization.result.fp32_ops == ("net.2",)


def test_the_callback_can_be_made_from_a_file(tmp_path):
    path = tmp_path / "ptq.json"  # JSON is YAML
    path.write_text(json.dumps(conf("here")))
    quantization = QuantizationCallback(str(path))
    fitted(quantization)
    assert (tmp_path / "here/best_configure.yaml").exists()
    assert json.loads(path.read_text()) == conf("here")


def test_the_speed_is_measured(callback, monkeypatch):
    monkeypatch.setattr("lpot_lightning.timing.ratio.MOST", 3)
    quantization = callback()
    fitted(quantization)
    assert 0 < quantization.result.speedup < 100


def test_the_state_of_the_callback_is_nothing_but_plain_values(callback, tmp_path):
    quantization = callback()
    saver = ModelCheckpoint(tmp_path / "kept", save_last=True)
    fitted(quantization, Lit(lr=0.01), others=(saver,), enable_checkpointing=True, max_epochs=1)
    for path in (tmp_path / "kept").iterdir():
        assert torch.load(path, weights_only=True)["epoch"] == 0


def test_a_kill_between_trials_loses_none_of_them(callback, monkeypatch):
    """A second process goes on where the first was stopped."""
    monkeypatch.setattr(op_profile, "perf_counter", itertools.count().__next__)  # as long, each op
    asked = {"tuning": {"accuracy_criterion": {"absolute": -2.0}}}
    whole = callback(**asked)
    fitted(whole)
    (whole.result.workspace / "history.jsonl").unlink()

    class Killed(Lit):
        def on_validation_epoch_start(self):
            passes.append(1)
            if len(passes) == 6:  # two first looks, baseline, calibration, one trial, and now
                raise KeyboardInterrupt

    passes = []
    with pytest.raises(SystemExit):
        fitted(callback(**asked), Killed())
    after = callback(**asked)
    fitted(after)
    assert [trial.replayed for trial in after.result.trials][:2] == [True, False]
    assert [t.recipe for t in after.result.trials] == [t.recipe for t in whole.result.trials]


def test_what_the_model_is_called_with_costs_no_step(workspace, monkeypatch):
    seen = []
    step = Lit.validation_step

    def noting(self, batch, batch_idx):
        seen.append(len(batch[0]))
        step(self, batch, batch_idx)

    monkeypatch.setattr(Lit, "validation_step", noting)
    counts = []
    for most in (64, -1):
        monkeypatch.setattr("lpot_lightning.deploy.recording.MOST_SAMPLES", most)
        callback = QuantizationCallback(conf(workspace / str(most)))
        fitted(callback)
        counts.append((len(seen), len(callback.result.origin.calls)))
        seen.clear()
    assert counts[0] == (counts[1][0], 4)
    assert counts[1][1] == 1
