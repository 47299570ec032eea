"""Every Trainer there is: quantized with a stated accuracy, or refused by name."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    EarlyStopping,
    GradientAccumulationScheduler,
    LambdaCallback,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelPruning,
    ModelSummary,
    ProgressBar,
    RichProgressBar,
    Timer,
    TQDMProgressBar,
)
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.plugins.environments import LightningEnvironment
from lit_scenes import Lit, Points, fitted, points, train_loader, trainer, val_loader
from torch.utils.data import DataLoader
from users_world import watched

OPTIONS = {
    "accelerator auto": {"accelerator": "auto", "devices": "auto", "strategy": "auto"},
    "accumulation": {"accumulate_grad_batches": 3},
    "anomalies": {"detect_anomaly": True},
    "checkpointing off": {"enable_checkpointing": False},
    "checkpointing by default": {"enable_checkpointing": True},
    "clipping": {"gradient_clip_val": 0.5, "gradient_clip_algorithm": "value"},
    "deterministic": {"deterministic": True},
    "few predict and test batches": {"limit_predict_batches": 1, "limit_test_batches": 1},
    "few training batches": {"limit_train_batches": 2},
    "inference mode off": {"inference_mode": False},
    "logging at every step": {"logger": CSVLogger("csv"), "log_every_n_steps": 1},
    "max steps": {"max_epochs": -1, "max_steps": 3},
    "max time": {"max_time": {"hours": 1}},
    "mixed bfloat16": {"precision": "bf16-mixed"},
    "mixed float16": {"precision": "16-mixed"},
    "overfitting": {"overfit_batches": 2},
    "own environment": {"plugins": [LightningEnvironment()]},
    "own precision": {"plugins": [MixedPrecision("bf16-mixed", "cpu")]},
    "own sampler": {"use_distributed_sampler": False},
    "profiler": {"profiler": "simple"},
    "reloaded loaders": {"reload_dataloaders_every_n_epochs": 1, "max_epochs": 2},
    "sanity check": {"num_sanity_val_steps": 2},
    "sanity check of everything": {"num_sanity_val_steps": -1},
    "synchronized batch norm": {"sync_batchnorm": True},
    "validation in the middle": {"val_check_interval": 2},
    "validation by steps over epochs": {
        "val_check_interval": 3, "check_val_every_n_epoch": None, "max_epochs": 2,
    },
    "validation after the last epoch": {"check_val_every_n_epoch": 3},
    "validation in half an epoch": {"val_check_interval": 0.5},
    "few validation batches": {"limit_val_batches": 2},
    "no epoch": {"max_epochs": 0},
}  # fmt: skip


def quantized(quantization, module=None, *data, **given):
    """Fit and quantize, and check what every quantized model has to be."""
    module = Lit(lr=0.01) if module is None else module
    one = fitted(quantization, module, *data, **{"max_epochs": 1, **given})
    assert_usable(quantization.result)
    return one


def assert_usable(result):
    """Check that a model is int8, as good as its fp32, and works in another Trainer."""
    assert result.status == "met"
    assert result.baseline == 1.0
    assert result.accuracy >= 0.99
    assert result.int8_ops
    judge = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    (tested,) = judge.test(result.model, val_loader(), verbose=False)
    assert tested[result.monitor] == pytest.approx(result.accuracy)


@pytest.fixture(autouse=True)
def _torch_as_before(monkeypatch):
    """Undo what `deterministic=True` switches for the whole process."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.filterwarnings("ignore:.*precision='16-mixed'")
@pytest.mark.filterwarnings("ignore:You requested to overfit")
def test_options(callback, options):
    quantized(callback(), **options)


CALLBACKS = {
    "accumulation": lambda: GradientAccumulationScheduler({0: 2}),
    "checkpoint": lambda: ModelCheckpoint("kept", monitor="val_acc", mode="max"),
    "checkpoint of the weights only": lambda: ModelCheckpoint("kept", save_weights_only=True),
    "checkpoints by steps": lambda: ModelCheckpoint("kept", every_n_train_steps=3, save_top_k=-1),
    "early stopping": lambda: EarlyStopping("val_acc", mode="max"),
    "early stopping at once": lambda: EarlyStopping("val_acc", mode="max", stopping_threshold=0.1),
    "early stopping in training": lambda: EarlyStopping(
        "val_acc", mode="max", check_on_train_epoch_end=True
    ),
    "lambda": lambda: LambdaCallback(on_fit_end=lambda trainer, module: None),
    "learning rates": LearningRateMonitor,
    "pruning": lambda: ModelPruning("l1_unstructured", amount=0.2),
    "rich bar": RichProgressBar,
    "summary": lambda: ModelSummary(2),
    "timer": Timer,
    "tqdm bar": TQDMProgressBar,
}


def either_order():
    """Yield each callback in both orders; one of them, in turn, is for `make soak`."""
    for number, (name, other) in enumerate(CALLBACKS.items()):
        for first in (True, False):
            marks = [pytest.mark.soak] if number % 2 == first else []
            yield pytest.param(other, first, id=f"{name}-{first}", marks=marks)


@pytest.mark.parametrize(("other", "first"), list(either_order()))
def test_callbacks_in_either_order(callback, other, first):
    quantization, theirs = watched(callback()), other()
    both = [quantization, theirs] if first else [theirs, quantization]
    bar = isinstance(theirs, ProgressBar)
    one = trainer(
        *both,
        max_epochs=2,
        enable_checkpointing=isinstance(theirs, ModelCheckpoint),
        enable_progress_bar=bar,
        enable_model_summary=isinstance(theirs, ModelSummary),
        logger=CSVLogger("csv"),
    )
    one.fit(Lit(lr=0.01), train_loader(), val_loader())
    assert quantization.watched == 1
    assert_usable(quantization.result)


class Sized(Points):
    """Data whose batch size can be set."""

    def __init__(self):
        super().__init__()
        self.batch_size = 8

    def train_dataloader(self):
        return DataLoader(points(120), batch_size=self.batch_size)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("finder", [BatchSizeFinder, LearningRateFinder])
@pytest.mark.filterwarnings("ignore:The `train_dataloader` does not have many workers")
def test_what_is_found_before_the_training_is_no_fit_for_us(callback, finder, first, workspace):
    given = {"max_trials": 2} if finder is BatchSizeFinder else {"num_training_steps": 4}
    quantization, theirs = watched(callback()), finder(**given)
    both = [quantization, theirs] if first else [theirs, quantization]
    one = trainer(*both, max_epochs=1, logger=CSVLogger("csv"))
    one.fit(Lit(lr=0.01), datamodule=Sized())
    assert quantization.watched == 1
    assert_usable(quantization.result)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")
def test_a_checkpoint_is_gone_on_from(callback, tmp_path):
    def saving():
        return ModelCheckpoint(tmp_path / "kept", save_last=True, enable_version_counter=False)

    given = {"others": (saving(),), "enable_checkpointing": True}
    quantized(callback(), **given)
    last = tmp_path / "kept/last.ckpt"
    again, module = callback(), Lit(lr=0.01)
    quantized(again, module, **given, ckpt_path=last, max_epochs=2)
    assert (module.current_epoch, again.watched) == (2, 1)
    done = callback()
    quantized(done, Lit(lr=0.01), **given, ckpt_path=last, max_epochs=1)
    assert done.result.accuracy == 1.0


def test_one_trainer_fits_several_modules(callback):
    quantization = callback()
    one = quantized(quantization, Lit(lr=0.01))
    first = quantization.result
    for number in (2, 3):
        module = Lit(lr=0.01)
        one.fit_loop.max_epochs = number
        one.fit(module, train_loader(), val_loader())
        assert quantization.watched == number
        assert_usable(quantization.result)
        assert quantization.result is not first
    (tested,) = one.test(module, val_loader(), verbose=False)
    assert tested["val_acc"] == 1.0


def test_the_callback_may_come_from_the_module(callback):
    class Bringing(Lit):
        def configure_callbacks(self):
            return [quantization]

    quantization = watched(callback())
    trainer(max_epochs=1).fit(Bringing(lr=0.01), train_loader(), val_loader())
    assert quantization.watched == 1
    assert_usable(quantization.result)
