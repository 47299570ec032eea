"""Every Trainer there is: quantized with a stated accuracy, or refused by name."""

import lightning.pytorch as pl
import pytest
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.plugins.environments import LightningEnvironment
from lit_scenes import Lit, fitted, val_loader

ONE = {"max_epochs": 1}

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
    result = quantization.result
    assert result.status == "met"
    assert result.baseline == 1.0
    assert result.accuracy >= 0.99
    assert len(result.int8_ops) >= 2
    judge = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    (tested,) = judge.test(result.model, val_loader(), verbose=False)
    assert tested[result.monitor] == pytest.approx(result.accuracy)
    return one


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")
def test_options(callback, options):
    quantized(callback(), **options)
