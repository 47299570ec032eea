"""Quantize a trained model without a fit."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.model_helpers import is_overridden
from typing_extensions import override

from lpot_lightning.callbacks.exporting import ExportCallback
from lpot_lightning.callbacks.later_judge import judged_later
from lpot_lightning.callbacks.lost_process import end_the_lost
from lpot_lightning.callbacks.quantization import QuantizationCallback
from lpot_lightning.conf.exporting import arguments_of
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.errors import ConfError, DataError, EvaluationError, QuantizationError
from lpot_lightning.judging.protocols import Monitor
from lpot_lightning.machine.lock import WorkspaceLock
from lpot_lightning.machine.random_numbers import seeded
from lpot_lightning.module.copying import second_model
from lpot_lightning.runs.entering import enter
from lpot_lightning.runs.preparation import check_not_int8
from lpot_lightning.runs.tuning_result import TuningResult
from lpot_lightning.runs.workspace import Workspace
from lpot_lightning.trainer.borrowed_loop import directions_in
from lpot_lightning.trainer.borrowed_validate import (
    borrowed,
    starts_processes,
    validate_quietly,
)
from lpot_lightning.trainer.calibration import Source
from lpot_lightning.trainer.checks import check_step, check_trainer
from lpot_lightning.trainer.ending import ending_well
from lpot_lightning.trainer.keepers import Choice, saved_weights
from lpot_lightning.trainer.monitor import find_monitor, named_by
from lpot_lightning.trainer.package import check_packages, either, of
from lpot_lightning.trainer.precision import judging_precision
from lpot_lightning.trainer.session import Session, in_one_process, workspace_in
from lpot_lightning.trainer.tuned_run import Request, run_quantization
from lpot_lightning.trainer.weights import Weights

_SAVED: tuple[Choice, ...] = ("best", "last")


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
    ``training_step``. It is left as it is, and so is the trainer.

    Args:
        trainer: whose validation loop judges, in one process or with ``strategy="ddp"``. Its
            callbacks stay quiet, its loggers get one line of scalars a trial.
        model: the trained model.
        train_dataloaders: to calibrate on, unshuffled; the validation data where there are none.
        val_dataloaders: to judge on.
        datamodule: gives both; its ``setup`` and ``teardown`` are called for ``validate`` and
            for ``fit``.
        conf: LPOT's user YAML: a path, a mapping or an OmegaConf object. What its ``export``
            section asks for is written to ``exports`` in the workspace.
        monitor: as for ``QuantizationCallback``; so are ``modules`` and ``calib``.
        ckpt_path: a checkpoint whose weights are quantized instead of those in memory; ``"best"``
            and ``"last"`` are those of the trainer's ``ModelCheckpoint``.

    Returns:
        the ``TuningResult``; its ``model`` is the int8 model.

    Raises:
        LpotError: of the kind that says what is wrong.
        SystemExit: with 130 for Ctrl-C and 143 for SIGTERM; what is finished is on disk.

    Example::

        result = quantize(Trainer(), LitDigits.load_from_checkpoint("best.ckpt"),
                          datamodule=data, conf="ptq.yaml")
        Trainer(accelerator="cpu").test(result.model, datamodule=data)
    """
    read = read_conf(conf)
    export = None if read.export is None else ExportCallback(**arguments_of(read.export))
    alone = dataclasses.replace(read, export=None)
    asked = QuantizationCallback(alone, monitor=monitor, modules=modules, calib=calib)
    _check_given(trainer, model)
    check_packages(trainer, model, datamodule)
    check_trainer(trainer)
    _check_judge(model, val_dataloaders, datamodule)
    check_not_int8(model)
    weights = "" if ckpt_path is None else os.fspath(ckpt_path)
    if starts_processes(trainer):
        raise QuantizationError(
            "`quantize` gives the int8 model back, which cannot leave the processes that this"
            " strategy starts: use `strategy='ddp'`, or one process with `Trainer(devices=1)`"
        )
    watchers: list[Callback] = list(trainer.callbacks)  # type: ignore[attr-defined]
    if weights in _SAVED and not any(saved_weights(watchers, one, None) for one in _SAVED):
        raise _not_saved(weights)
    precision = judging_precision(trainer, model, rank_zero_info)
    workspace = workspace_in(trainer, asked.conf)
    request = Request(
        conf=asked.conf,
        monitor=monitor,
        modules=asked.modules,
        weights=Weights(weights),
        workspace=workspace,
        calib=calib,
        train=train_dataloaders,
    )
    if export is not None:
        export.check(trainer, workspace.folder)
    driver, stand_in = _Driver(request, trainer, precision), second_model(model)
    with (
        closing(driver),
        ending_well(
            lambda: f"{driver.workspace.left()}; go on with the same call of `quantize`", trainer
        ),
        seeded(asked.conf.tuning.random_seed),
        borrowed(trainer, stand_in, driver, precision),
    ):
        validate_quietly(trainer, stand_in, val_dataloaders, datamodule, precision)
    if driver.result is None:
        raise DataError("the validation dataloader is empty: there is no batch to judge by")
    if export is not None:
        export.of(trainer, driver.result)
    return driver.result


class _Driver(Callback):
    """Starts the run from inside ``validate``, where the data and the module are set up."""

    def __init__(self, request: Request, trainer: Trainer, precision: Precision) -> None:
        self._request, self._limit = request, trainer.limit_val_batches
        self._watchers: list[Callback] = list(trainer.callbacks)  # type: ignore[attr-defined]
        self._precision = precision
        self._loggers: list[Logger] = trainer.loggers
        self._lock: WorkspaceLock | None = None
        self.result: TuningResult | None = None

    def close(self) -> None:
        """Let others into the workspace."""
        if self._lock is not None:
            self._lock.release()

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._request.workspace.folder is not None:
            own = in_one_process(trainer, self._entered)
            self._request = dataclasses.replace(self._request, workspace=own)

    @property
    def workspace(self) -> Workspace:
        """Where the files go."""
        return self._request.workspace

    def _entered(self) -> Workspace:
        own, self._lock = enter(self._request.workspace, rank_zero_info)
        return own

    @override
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        end_the_lost(trainer, self, exception)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del vars(pl_module)["configure_callbacks"]
        data: LightningDataModule | None = trainer.datamodule  # type: ignore[attr-defined]
        if data is not None:
            data.setup("fit")
        silent, trainer.loggers = trainer.loggers, self._loggers
        trainer.limit_val_batches = self._limit
        try:
            chosen = partial(_chosen, trainer, self._request, self._watchers)
            weights = Weights.of(in_one_process(trainer, chosen))
            request = dataclasses.replace(self._request, weights=weights)
            session = Session(trainer, pl_module, self._watchers, self._precision)
            with closing(session):
                result = run_quantization(trainer, session, request)
                self.result = judged_later(result, trainer, session, request.conf)
        finally:
            trainer.loggers = silent
            if data is not None:
                data.teardown("fit")


def _check_given(trainer: object, model: object) -> None:
    if not isinstance(trainer, either(Trainer)):
        swapped = isinstance(model, either(Trainer))
        raise ConfError(
            f"`trainer` is a `{type(trainer).__name__}`; allowed: a Lightning `Trainer`"
            + (", which comes first: `quantize(trainer, model, …)`" if swapped else "")
        )


def _check_judge(model: LightningModule, loaders: Any, data: LightningDataModule | None) -> None:
    check_step(model)
    owner = model if data is None else data
    if loaders is None and not of(owner, is_overridden)("val_dataloader", owner):
        raise EvaluationError(
            "there is no validation data: pass `val_dataloaders`, or define `val_dataloader()` in"
            f" `{type(owner).__name__}`"
        )


def _chosen(trainer: Trainer, request: Request, watchers: Sequence[Callback]) -> str:
    """Return the path of the checkpoint that is asked for, ``""`` for the weights in memory."""
    asked = request.weights.path
    choice = next((one for one in _SAVED if one == asked), None)
    if choice is None:
        return asked
    found = saved_weights(watchers, choice, _monitor_of(trainer, request, watchers))
    if not found:
        raise _not_saved(choice)
    rank_zero_info(f"quantizing the weights of `{found}`")
    return found


def _monitor_of(trainer: Trainer, request: Request, watchers: Sequence[Callback]) -> Monitor:
    """Return what models will be judged by, from the one batch that ``validate`` saw."""
    asked = request.conf.tuning.accuracy_criterion.higher_is_better
    logged = directions_in(trainer.validate_loop)
    try:
        return find_monitor(request.monitor, asked, watchers, logged, logged)
    except EvaluationError:  # a callback may log it, which was quiet
        named = {request.monitor} if request.monitor else named_by(watchers)
        return find_monitor(request.monitor, asked, watchers, named, logged)


def _not_saved(choice: str) -> EvaluationError:
    return EvaluationError(f"`ckpt_path` is `{choice}`, but the trainer saved no such checkpoint")
