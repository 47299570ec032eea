"""A trained model without a fit."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lit_scenes import (
    Late,
    Lit,
    Points,
    conf,
    files_in,
    fitted,
    same,
    train_loader,
    trainer,
    val_loader,
    weights_of,
)
from users_world import kept

from lpot_lightning import quantize
from lpot_lightning.errors import (
    ConfError,
    DataError,
    EvaluationError,
    LpotError,
    QuantizationError,
)


def quantized(workspace, module=None, *data, one=None, **given):
    """Quantize, check that the user's world is as before, and return the result."""
    one = trainer() if one is None else one
    module = Lit() if module is None else module
    if not data and "datamodule" not in given:
        data = (train_loader(), val_loader())
    with kept(one, module):
        return quantize(one, module, *data, **{"conf": conf(workspace), **given})


def test_loaders_are_enough(workspace):
    result = quantized(workspace)
    assert (result.status, result.workspace) == ("met", workspace)
    assert trainer().test(result.model, val_loader(), verbose=False) == [{"val_acc": 1.0}]


def test_nothing_of_the_result_was_born_in_inference_mode(workspace):
    model = quantized(workspace).model
    tensors = [*model.parameters(), *model.buffers()]
    assert not any(tensor.is_inference() for tensor in tensors)
    model.acc.update(torch.eye(3), torch.arange(3))


def test_a_module_that_cannot_be_trained_is_quantized(workspace):
    class OnlyValidated(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Lit().net

        def validation_step(self, batch, batch_idx):
            self.log("hits", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    assert quantized(workspace, OnlyValidated()).monitor == "hits"


def test_a_datamodule_is_set_up_for_both_and_torn_down(workspace):
    class Open(Points):
        def teardown(self, stage):
            self.stages.append("end of " + stage)

    data = Open()
    assert quantized(workspace, datamodule=data).status == "met"
    assert data.stages == ["validate", "fit", "end of fit", "end of validate"]


def test_the_modules_own_loaders_are_used(workspace):
    class Own(Lit):
        def train_dataloader(self):
            return train_loader()

        def val_dataloader(self):
            return val_loader()

    result = quantized(workspace, Own(), None, None)
    assert result.status == "met"
    assert "samples: 112" in (workspace / "best_configure.yaml").read_text()


def test_layers_that_configure_model_builds_are_quantized(workspace):
    module = Late()
    assert quantized(workspace, module).int8_ops == ("net.0", "net.2")
    assert module.net is None


def test_callbacks_of_trainer_and_module_hear_nothing(workspace):
    class Spy(pl.Callback):
        def setup(self, *_, **__):
            raise AssertionError

        on_validation_start = on_validation_end = teardown = setup

    class Own(Lit):
        def configure_callbacks(self):
            return [Spy()]

    module = Own()
    result = quantized(workspace, module, one=trainer(Spy()))
    assert "configure_callbacks" not in vars(result.model)


def test_loggers_get_our_scalars_and_no_others(workspace, tmp_path):
    logger = CSVLogger(tmp_path / "csv")
    quantized(workspace, one=trainer(logger=logger))
    text = (tmp_path / "csv/lightning_logs/version_0/metrics.csv").read_text()
    names = set(text.splitlines()[0].split(",")) - {"step"}
    assert all(name.startswith("lpot/") for name in names)


def test_a_trainer_that_has_fitted_is_as_it_was(workspace, tmp_path):
    one = trainer(max_epochs=1, logger=CSVLogger(tmp_path / "csv"), log_every_n_steps=1)
    module, data = Lit(lr=0.01), Points()
    one.fit(module, datamodule=data)
    metrics = dict(one.callback_metrics)
    quantized(workspace, module, one=one)
    assert one.callback_metrics == metrics
    assert one.datamodule is data
    assert module.trainer is one


def test_a_trainer_quantizes_twice(workspace, tmp_path):
    one = trainer()
    quantized(workspace, one=one)
    assert quantized(tmp_path / "other", one=one).status == "met"


@pytest.mark.parametrize("name", ["best", "last", "path"])
def test_the_weights_of_a_checkpoint_are_quantized(workspace, tmp_path, name):
    saver = ModelCheckpoint(tmp_path / "kept", save_last=True)
    one = trainer(saver, enable_checkpointing=True, max_epochs=1)
    trained, fresh = Lit(lr=0.01), Lit()
    one.fit(trained, train_loader(), val_loader())
    path = saver.best_model_path if name == "path" else name
    quantized(workspace, fresh, one=one, ckpt_path=path)
    content = torch.load(workspace / "best_quantized.ckpt", weights_only=True)
    assert same(content["state_dict"], weights_of(trained))
    assert not same(weights_of(fresh), weights_of(trained))


def test_a_checkpoint_that_was_never_saved_is_told(workspace):
    with pytest.raises(EvaluationError, match="`ckpt_path` is `best`, but the trainer saved no"):
        quantized(workspace, ckpt_path="best")
    assert not workspace.exists()


def test_a_missing_checkpoint_is_named(workspace):
    with pytest.raises(QuantizationError, match=r"cannot read `none.ckpt`: .*No such file"):
        quantized(workspace, ckpt_path="none.ckpt")


def test_a_checkpoint_of_another_class_is_named(workspace, tmp_path):
    torch.save({"state_dict": {"other.weight": torch.zeros(1)}}, tmp_path / "other.ckpt")
    with pytest.raises(QuantizationError, match="other.ckpt` is not of this `Lit`: .*Missing key"):
        quantized(workspace, ckpt_path=tmp_path / "other.ckpt")


def test_bare_weights_are_no_checkpoint(workspace, tmp_path):
    torch.save(Lit().state_dict(), tmp_path / "bare.ckpt")
    with pytest.raises(QuantizationError, match="bare.ckpt` is no Lightning checkpoint"):
        quantized(workspace, ckpt_path=tmp_path / "bare.ckpt")


def test_validation_data_is_needed(workspace):
    with pytest.raises(EvaluationError, match=r"define `val_dataloader\(\)` in `Lit`"):
        quantized(workspace, Lit(), train_loader(), None)
    assert not workspace.exists()


def test_a_validation_step_is_needed(workspace):
    with pytest.raises(EvaluationError, match="`LightningModule` has no `validation_step`"):
        quantized(workspace, pl.LightningModule())


@pytest.mark.filterwarnings("ignore:Total length of .* is zero")
def test_empty_validation_data_is_refused(workspace):
    with pytest.raises(DataError, match="there is no batch to judge by"):
        quantized(workspace, Lit(), train_loader(), [])


def test_a_fault_in_the_validation_gives_the_world_back(workspace):
    class Faulty(Lit):
        def validation_step(self, batch, batch_idx):
            if batch_idx == 2:
                raise RuntimeError("mine")
            super().validation_step(batch, batch_idx)

    with pytest.raises(EvaluationError, match=r"fails on batch 3 of the pass \(RuntimeError: mine"):
        quantized(workspace, Faulty())
    assert files_in(workspace) == []


def test_an_error_of_ours_gives_the_world_back(workspace):
    one = trainer()
    with pytest.raises(LpotError, match="which the validation loop does not log"):
        quantized(workspace, one=one, monitor="val_ac")
    assert quantized(workspace, one=one).status == "met"


def test_a_fast_dev_run_writes_nothing(workspace):
    assert quantized(workspace, one=trainer(fast_dev_run=True)).workspace is None
    assert not workspace.exists()


def test_limit_val_batches_is_obeyed(workspace):
    class Counting(Lit):
        def on_validation_epoch_start(self):
            seen.append(0)

        def validation_step(self, batch, batch_idx):
            seen[-1] += 1
            super().validation_step(batch, batch_idx)

    seen = []
    quantized(workspace, Counting(), one=trainer(limit_val_batches=2))
    assert seen[:4] == [1, 1, 1, 2]


def test_the_callbacks_result_and_quantize_agree(workspace, callback):
    one = callback()
    fitted(one)
    (workspace / "history.jsonl").unlink()
    x = next(iter(val_loader()))[0]
    assert torch.equal(one.result.model(x), quantized(workspace).model(x))


def test_swapped_arguments():
    said = r"`trainer` is a `Lit`; allowed: a Lightning `Trainer`, which comes first: `quantize\("
    with pytest.raises(ConfError, match=said):
        quantize(Lit(), trainer(), val_dataloaders=val_loader(), conf=conf())
