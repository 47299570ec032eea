"""Quantize a trained model without a fit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from typing_extensions import override

from lpot_lightning.api.result import TuningResult
from lpot_lightning.callbacks.calibration import Source
from lpot_lightning.callbacks.checkpoint import saved_weights
from lpot_lightning.callbacks.quantization import (
    QuantizationCallback,
    check_trainer,
    run_quantization,
    workspace_for,
)
from lpot_lightning.callbacks.quiet import saved_metrics
from lpot_lightning.errors import DataError, EvaluationError
from lpot_lightning.files import open_folder


def quantize(
    trainer: Trainer,
    model: LightningModule,
    train_dataloaders: Any = None,
    val_dataloaders: Any = None,
    datamodule: LightningDataModule | None = None,
    *,
    conf: Any,
    monitor: str | None = None,
    modules: list[str] | None = None,
    calib: Source = "train",
    ckpt_path: str | os.PathLike[str] | None = None,
) -> TuningResult:
    """Quantize a model that needs no training, tuned to an accuracy goal.

    The model needs a ``validation_step`` and data for it, but no optimizer and no
    ``training_step``. It is left as it is.

    Args:
        trainer: whose validation loop judges; single process. Its callbacks and loggers stay quiet.
        model: the trained model.
        train_dataloaders: to calibrate on, unshuffled; the validation data where there are none.
        val_dataloaders: to judge on.
        datamodule: gives both; its ``setup`` is called for ``validate`` and for ``fit``.
        conf: LPOT's user YAML: a path, a mapping or an OmegaConf object.
        monitor: as for ``QuantizationCallback``; so are ``modules`` and ``calib``.
        ckpt_path: a checkpoint whose weights are quantized instead of those in memory; ``"best"``
            and ``"last"`` are those of the trainer's ``ModelCheckpoint``.

    Returns:
        the ``TuningResult``; its ``model`` is the int8 model.

    Raises:
        LpotError: of the kind that says what is wrong.

    Example::

        result = quantize(Trainer(), LitDigits.load_from_checkpoint("best.ckpt"),
                          datamodule=data, conf="ptq.yaml")
        Trainer(accelerator="cpu").test(result.model, datamodule=data)
    """
    asked = QuantizationCallback(conf, monitor=monitor, modules=modules, calib=calib)
    check_trainer(trainer)
    if not is_overridden("validation_step", model):
        raise EvaluationError(f"`{type(model).__name__}` has no `validation_step` to judge by")
    if (workspace := workspace_for(trainer, asked.conf)) is not None:
        open_folder(workspace)
    users: list[Callback] = list(trainer.callbacks)  # type: ignore[attr-defined]
    driver = _Driver(
        partial(
            run_quantization,
            conf=asked.conf,
            monitor=monitor,
            modules=asked.modules,
            calib=calib,
            weights=_weights(trainer, ckpt_path),
            workspace=workspace,
            watchers=users,
            train=train_dataloaders,
        ),
        trainer.limit_val_batches,
    )
    with _short_and_silent(trainer, driver):
        trainer.validate(model, val_dataloaders, datamodule=datamodule, verbose=False)
    if driver.result is None:
        raise DataError("the validation dataloader is empty: there is no batch to judge by")
    return driver.result


class _Driver(Callback):
    """Starts the run from inside ``validate``, where the data and the module are set up."""

    def __init__(self, start: partial[TuningResult], limit: int | float) -> None:
        self._start, self._limit = start, limit
        self.result: TuningResult | None = None

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.limit_val_batches = self._limit
        data: LightningDataModule | None = trainer.datamodule  # type: ignore[attr-defined]
        if data is not None:
            data.setup("fit")
        self.result = self._start(trainer, pl_module)


@contextmanager
def _short_and_silent(trainer: Trainer, driver: _Driver) -> Iterator[None]:
    """Let ``validate`` see one batch and nobody but ``driver``."""
    before = trainer.callbacks, trainer.limit_val_batches  # type: ignore[attr-defined]
    connector, metrics = trainer._logger_connector, saved_metrics(trainer)
    trainer.callbacks = [driver]  # type: ignore[attr-defined]
    trainer.limit_val_batches = 1
    try:
        yield
    finally:
        trainer.callbacks, trainer.limit_val_batches = before  # type: ignore[attr-defined]
        vars(connector).update(metrics)


def _weights(trainer: Trainer, path: str | os.PathLike[str] | None) -> str:
    if path is None:
        return ""
    name = os.fspath(path)
    if name in ("best", "last"):
        found = saved_weights(trainer, "best" if name == "best" else "last")
        if not found:
            raise EvaluationError(f"`ckpt_path` is `{name}`, but the trainer saved no checkpoint")
        return found
    return name
