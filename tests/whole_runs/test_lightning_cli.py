"""The callback, written in the YAML of a LightningCLI."""

import sys

import pytest
import yaml
from lit_scenes import Lit, Points, conf, sampling, trainer, val_loader

pytest.importorskip("jsonargparse")
from lightning.pytorch.cli import LightningCLI

# Lightning 2.6 calls jsonargparse in ways that this warns of
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

CALLBACK = "lpot_lightning.QuantizationCallback"
QUIET = {
    "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "max_epochs": 1,
    "enable_model_summary": False, "enable_checkpointing": False,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_arguments(monkeypatch):
    monkeypatch.setattr("sys.argv", ["fit"])


def run(tmp_path, arguments, **options):
    """Run ``fit`` with one YAML file, and return the CLI."""
    asked = {
        "trainer": {
            **QUIET,
            **options,
            "callbacks": [
                {"class_path": CALLBACK, "init_args": arguments},
                *options.get("callbacks", []),
            ],
        },
        "model": {"lr": 0.01},
    }
    path = tmp_path / "fit.yaml"
    path.write_text(yaml.safe_dump(asked))
    return LightningCLI(
        Lit,
        Points,
        args=["fit", "--config", str(path)],
        save_config_callback=None,
        seed_everything_default=False,
    )


OPTIONS = {
    "accumulation": {"accumulate_grad_batches": 2},
    "another precision": {"precision": "bf16-true"},
    "checkpoints": {
        "enable_checkpointing": True,
        "callbacks": [
            {
                "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
                "init_args": {"monitor": "val_acc", "mode": "max", "dirpath": "kept"},
            }
        ],
    },
    "averaged weights": {
        "callbacks": [
            {
                "class_path": "lightning.pytorch.callbacks.EMAWeightAveraging",
                "init_args": {"decay": 0.9},
            }
        ],
    },
    "reloaded loaders": {"reload_dataloaders_every_n_epochs": 1},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_trainers_from_yaml(tmp_path, options):
    ptq = tmp_path / "ptq.yaml"
    ptq.write_text(yaml.safe_dump(conf("here", quantization=sampling(48))))
    given = {**options, "default_root_dir": str(tmp_path / "root")}
    cli = run(tmp_path, {"conf": str(ptq), "monitor": "val_acc", "calib": "val"}, **given)
    result = cli.trainer.callbacks[0].result
    assert (result.status, result.accuracy, len(result.int8_ops)) == ("met", 1.0, 2)
    assert result.workspace == tmp_path / "root/here"
    assert trainer().test(result.model, val_loader(), verbose=False) == [{"val_acc": 1.0}]


def test_the_conf_itself_in_the_yaml(tmp_path):
    cli = run(tmp_path, {"conf": conf("here"), "modules": ["net.0"]})
    (callback,) = [one for one in cli.trainer.callbacks if hasattr(one, "result")]
    assert callback.result.int8_ops == ("net.0",)


def test_all_arguments_of_the_training_for_int8(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "CALLBACK", "lpot_lightning.QATCallback")
    given = {
        "conf": conf(tmp_path / "workspace", quantization={"approach": "quant_aware_training"}),
        "monitor": "val_acc",
        "modules": ["net"],
        "ckpt": "current",
        "baseline": 0.9,
        "freeze_batch_norm": 1,
        "freeze_observers": 1,
    }
    cli = run(tmp_path, given, max_epochs=2)
    callback = next(one for one in cli.trainer.callbacks if type(one).__name__ == "QATCallback")
    assert (callback.result.status, callback.result.baseline) == ("met", 0.9)
    assert (callback.freeze_batch_norm, callback.freeze_observers) == (1, 1)
