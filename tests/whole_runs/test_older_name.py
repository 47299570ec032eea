"""All of it with `pytorch_lightning`: the Trainer, module, data and callbacks of the older name."""

import os
import subprocess
import sys

import lightning.pytorch as L
import pytest
import torch
from lit_scenes import Lit, conf, train_loader, trainer, val_loader
from older_scenes import OlderLit, OlderPoints, older_trainer, pl
from qat_scenes import qat

from lpot_lightning import (
    LPOTCLI,
    BenchmarkCallback,
    PruningCallback,
    QuantizationCallback,
    callbacks_from_conf,
    load_from_checkpoint,
    quantize,
)

WEIGHTS = {"initial_sparsity": 0.0, "target_sparsity": 0.5, "start_epoch": 0, "end_epoch": 1}
PRUNING = {"approach": {"weight_compression": {**WEIGHTS, "pruners": [{}]}}}


def fitted(*callbacks, data=None, **given):
    module, one = OlderLit(0.01), older_trainer(*callbacks, **given)
    if data is None:
        one.fit(module, train_loader(), val_loader())
    else:
        one.fit(module, datamodule=data)
    return one, module


def agrees(result):
    """Check that the int8 model gives in a Trainer of that package what it was judged to give."""
    (told,) = older_trainer().validate(result.model, val_loader(), verbose=False)
    assert told["val_acc"] == pytest.approx(result.accuracy)
    assert result.int8_ops == ("net.0", "net.2")


def test_quantization_of_the_best_checkpoint(workspace):
    kept = pl.callbacks.ModelCheckpoint("saved", monitor="val_acc", mode="max")
    averaging = pl.callbacks.EMAWeightAveraging()
    stopping = pl.callbacks.EarlyStopping("val_acc", mode="max")
    quantization = QuantizationCallback(conf(workspace))
    fitted(kept, averaging, stopping, quantization, data=OlderPoints(), enable_checkpointing=True)
    agrees(quantization.result)
    assert kept.best_model_path
    again = load_from_checkpoint(OlderLit, workspace / "best_quantized.ckpt")
    x = torch.randn(5, 8)
    assert torch.equal(again(x), quantization.result.model(x))


def test_a_trainer_with_bars_and_logger(workspace):
    from pytorch_lightning.loggers import CSVLogger

    quantization = QuantizationCallback(conf(workspace))
    fitted(quantization, enable_progress_bar=True, logger=CSVLogger("logged"), log_every_n_steps=1)
    agrees(quantization.result)


def test_training_for_int8(workspace):
    training = qat(workspace)
    fitted(training, max_epochs=2)
    agrees(training.result)


def test_pruning_and_quantization_from_one_yaml_and_a_benchmark(workspace):
    both = conf(workspace, pruning=PRUNING, quantization={"approach": "post_training_static_quant"})
    callbacks = callbacks_from_conf(both)
    assert {type(one) for one in callbacks} == {PruningCallback, QuantizationCallback}
    benchmark = BenchmarkCallback(conf())
    fitted(*callbacks, benchmark, max_epochs=2)
    pruned, quantized = (one.result for one in callbacks)
    assert pruned.reached
    agrees(quantized)
    assert benchmark.result.label == "int8"


def test_without_a_fit_of_saved_weights(workspace):
    kept = pl.callbacks.ModelCheckpoint("saved", monitor="val_acc", mode="max")
    one, module = fitted(kept, enable_checkpointing=True)
    result = quantize(one, module, datamodule=OlderPoints(), conf=conf(workspace), ckpt_path="best")
    agrees(result)
    assert module.trainer is one


class Hits(pl.Callback):
    """Logs the metric that models are judged by."""

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, *_):
        hits = pl_module(batch[0]).argmax(1) == batch[1]
        pl_module.log("val_hits", hits.float().mean())


def test_a_metric_that_a_callback_logs(workspace):
    quantization = QuantizationCallback(conf(workspace), monitor="val_hits")
    fitted(Hits(), quantization)
    assert quantization.result.status == "met"


def test_half_precision(workspace):
    result = quantize(
        older_trainer(precision="bf16-true"), OlderLit().bfloat16(), train_loader(), val_loader(),
        conf=conf(workspace),
    )  # fmt: skip
    assert result.status == "met"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_command_line(workspace, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["main.py"])
    asked = ["quantize", "--trainer.logger", "false", "--conf", str(conf(workspace))]
    cli = LPOTCLI(OlderLit, OlderPoints, args=asked, seed_everything_default=False)
    assert isinstance(cli, pl.cli.LightningCLI)
    assert cli.result.status == "met"


def test_the_command_line_of_that_package():
    name = "lpot_lightning.QuantizationCallback"
    asked = {"callbacks": [{"class_path": name, "init_args": {"conf": conf()}}]}
    code = (
        "import pytorch_lightning.cli as c; from older_scenes import *;"
        f"cli = c.LightningCLI(OlderLit, run=False, args={{'trainer': {asked}}});"
        "assert type(cli.trainer.callbacks[0]).__name__ == 'QuantizationCallback'"
    )
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, env=paths)


@pytest.mark.parametrize(
    ("lender", "given", "kinds"), [(trainer, Lit, pl), (older_trainer, OlderLit, L)]
)
def test_callbacks_of_the_other_name(lender, given, kinds, workspace):
    kept = kinds.callbacks.ModelCheckpoint("saved", monitor="val_acc", mode="max")
    stopping = kinds.callbacks.EarlyStopping("val_acc", mode="max")
    quantization = QuantizationCallback(conf(workspace))
    one = lender(kept, stopping, quantization, max_epochs=1)
    one.fit(given(0.01), train_loader(), val_loader())
    assert quantization.result.int8_ops == ("net.0", "net.2")
