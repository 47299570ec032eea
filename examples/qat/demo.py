"""A net that int8 breaks, and that learns to be int8.

The state of a cellular automaton goes through the same rule in every step, so what rounding does to
it adds up. Post-training quantization cannot have all of its ops in int8 within 1 % of the
accuracy, and has to leave some in fp32, which makes it slow. A few epochs of training with the
rounding, from the same fp32 weights, and all of them are int8. Training as long without the
rounding is no help.

    python examples/qat/demo.py
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path
from typing import Any

import yaml
from automaton import DigitsData, LitAutomaton
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from lpot_lightning import QATCallback, TuningResult, quantize

HERE = Path(__file__).parent
CHECKPOINTS = Path("lpot_workspace/checkpoints")
EPOCHS, SHORT = (20, 6), (6, 2)


def main() -> None:
    """Train, quantize after the training, train for int8, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--short", action="store_true", help="fewer epochs")
    asked = parser.parse_args()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_tips)
    warnings.filterwarnings("ignore", message=".*(LeafSpec|num_workers|smaller than)")
    fp32_epochs, qat_epochs = SHORT if asked.short else EPOCHS
    seed_everything(asked.seed, verbose=False)
    data = DigitsData(batch_size=32)

    print(f"training in fp32, {fp32_epochs} epochs", flush=True)
    best = ModelCheckpoint(CHECKPOINTS / "fp32", monitor="val_acc", mode="max")
    _fit(LitAutomaton(), data, fp32_epochs, best)
    fp32 = LitAutomaton(start_from=best.best_model_path)

    results = {
        "PTQ, all ops int8": _ptq(fp32, data, "automaton_all_int8", {"max_trials": 1}),
        "PTQ, tuned by `auto`": _ptq(fp32, data, "automaton_ptq", {}),
    }

    print(f"\ntraining with the rounding of int8, {qat_epochs} epochs", flush=True)
    model = LitAutomaton(learning_rate=1e-3, start_from=best.best_model_path)
    rounded = ModelCheckpoint(CHECKPOINTS / "qat", monitor="val_acc", mode="max")
    qat = QATCallback(HERE / "qat.yaml")
    _fit(model, data, qat_epochs, rounded, qat)
    assert qat.result is not None
    results[f"QAT, {qat_epochs} epochs more"] = qat.result
    print("\n" + _table(results))


def _fit(model: LitAutomaton, data: DigitsData, epochs: int, *callbacks: Callback) -> None:
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        gradient_clip_val=1.0,
        callbacks=list(callbacks),
        logger=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    trainer.fit(model, datamodule=data)


def _ptq(model: LitAutomaton, data: DigitsData, name: str, policy: dict[str, Any]) -> TuningResult:
    print(f"\nquantizing after the training: {name}", flush=True)
    conf = yaml.safe_load((HERE / "ptq.yaml").read_text())
    conf["model"]["name"] = name
    conf["tuning"]["exit_policy"] = policy
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    return quantize(trainer, model, datamodule=data, conf=conf)


def _table(results: dict[str, TuningResult]) -> str:
    lines = [f"{'':22}{'accuracy':>9}{'ops in fp32':>13}{'passes':>8}{'speed-up':>10}  goal"]
    baseline = next(iter(results.values())).baseline
    lines.append(f"{'fp32':22}{baseline:9.4f}")
    for name, result in results.items():
        fp32, ops = len(result.fp32_ops), len(result.fp32_ops) + len(result.int8_ops)
        lines.append(
            f"{name:22}{result.accuracy:9.4f}{f'{fp32} of {ops}':>13}{result.evaluations:8.1f}"
            f"{result.speedup:9.2f}x  {'met' if result.status == 'met' else 'missed'}"
        )
    return "\n".join(lines)


def _no_tips(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()


if __name__ == "__main__":
    main()
