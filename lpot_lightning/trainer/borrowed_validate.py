"""Borrow a trainer's ``validate`` and give everything back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.trainer.states import RunningStage, TrainerFn

from lpot_lightning.machine.ranks import Ranks
from lpot_lightning.trainer.borrowed_loop import saved_metrics
from lpot_lightning.trainer.cpu_strategy import on_cpu
from lpot_lightning.trainer.package import either, of
from lpot_lightning.trainer.precision import Float32, step_failed


def starts_processes(trainer: Trainer) -> bool:
    """Return whether the strategy starts processes that no object comes back from."""
    return isinstance(trainer.strategy.launcher, either(_MultiProcessingLauncher))


@contextmanager
def borrowed(
    trainer: Trainer, model: LightningModule, driver: Callback, precision: Precision
) -> Iterator[None]:
    """Let ``validate`` see one batch of ``model``, and nobody but ``driver``.

    That is on the CPU, except in a trainer of several processes, whose own strategy starts them.
    The loop is one that leaves inference mode off: what is created there is in the result.
    """
    names = ("callbacks", "loggers", "limit_val_batches", "profiler", "validate_loop", "datamodule")
    before = {name: getattr(trainer, name) for name in names}
    before["_last_val_time"] = getattr(trainer, "_last_val_time", None)
    state, data = vars(trainer.state).copy(), _attached_data(trainer)
    connector, metrics, strategy = (
        trainer._logger_connector,
        saved_metrics(trainer),
        trainer.strategy,
    )
    held = {name: getattr(strategy, name) for name in ("_lightning_module", "_model")}
    try:
        trainer.callbacks = [driver]  # type: ignore[attr-defined]
        trainer.loggers = [of(trainer, DummyLogger)() for _ in trainer.loggers]
        trainer.profiler = of(trainer, PassThroughProfiler)()  # type: ignore[attr-defined]
        if trainer.world_size == 1:
            trainer._accelerator_connector.strategy = on_cpu(model, strategy, Ranks(), precision)
        trainer.limit_val_batches = 1
        trainer.validate_loop = of(trainer, _EvaluationLoop)(
            trainer, TrainerFn.VALIDATING, RunningStage.VALIDATING, inference_mode=False
        )
        yield
    finally:
        for key, value in before.items():
            setattr(trainer, key, value)
        trainer._accelerator_connector.strategy = strategy
        vars(strategy).update(held)
        for owner, attributes in data:
            vars(owner).update(attributes)
        vars(trainer.state).update(state)
        vars(connector).update(metrics)


def validate_quietly(
    trainer: Trainer,
    stand_in: LightningModule,
    loaders: Any,
    data: LightningDataModule | None,
    precision: Precision,
) -> None:
    """Let a borrowed ``validate`` begin; nobody but the driver hears of it.

    What ``configure_callbacks`` of ``stand_in`` gives is kept out by an attribute of that name,
    which the driver takes away.
    """
    vars(stand_in)["configure_callbacks"] = list
    try:
        trainer.validate(stand_in, loaders, datamodule=data, verbose=False)
    except RuntimeError as error:
        if isinstance(precision, Float32):  # it worked in the type that the weights were in
            raise step_failed(error, precision) from error
        raise


def _attached_data(trainer: Trainer) -> list[tuple[object, dict[str, Any]]]:
    """Return what ``validate`` attaches data to, with what is attached there now."""
    fit = trainer.fit_loop
    loops = fit, fit.epoch_loop.val_loop, trainer.test_loop, trainer.predict_loop
    found: list[tuple[object, dict[str, Any]]] = [
        (
            trainer._data_connector,
            {"_datahook_selector": trainer._data_connector._datahook_selector},
        )
    ]
    for loop in loops:
        found.append((loop, {"_combined_loader": loop._combined_loader}))
        found.append((loop._data_source, {"instance": loop._data_source.instance}))
    return found
