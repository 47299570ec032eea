"""Train a net, get it back in int8, restore it in another process.

make demo
"""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from pathlib import Path

import torch
from digits import DigitsData, LitDigits
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from lpot_lightning import QuantizationCallback

HERE = Path(__file__).parent


def main() -> None:
    """Run the demo."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_tips)
    warnings.filterwarnings("ignore", message=".*(LeafSpec|num_workers|smaller than)")
    seed_everything(1, verbose=False)
    data = DigitsData()
    best = ModelCheckpoint("lpot_workspace/checkpoints", monitor="val_acc", mode="max")
    quantization = QuantizationCallback(HERE / "ptq.yaml")
    trainer = Trainer(
        max_epochs=10,
        accelerator="cpu",
        callbacks=[best, quantization],
        logger=False,
        enable_model_summary=False,
    )
    trainer.fit(LitDigits(), datamodule=data)

    result = quantization.result
    assert result is not None
    print(f"\ntest of the int8 model: {_test(result.model, data):.4f}")
    images = next(iter(data.val_dataloader()))[0]
    with torch.no_grad():
        torch.save(result.model(images), result.workspace / "predictions.pt")
    print("\nrestoring in a new process …", flush=True)
    restore = [sys.executable, HERE / "restore.py", best.best_model_path, result.workspace]
    subprocess.run(restore, check=True)


def _test(model: LitDigits, data: DigitsData) -> float:
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    return trainer.test(model, datamodule=data, verbose=False)[0]["val_acc"]


def _no_tips(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()


if __name__ == "__main__":
    main()
