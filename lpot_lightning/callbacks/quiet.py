"""Borrow a trainer's validation loop and give everything back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.trainer.states import RunningStage, TrainerFn
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.seed import isolate_rng
from torchmetrics import Metric

Batches = Sequence[int | float]


class BorrowedLoop(_EvaluationLoop):
    """Lightning's validation loop over given loaders, with counters of its own."""

    def __init__(self, trainer: Trainer, loader: CombinedLoader, batches: Batches) -> None:
        fn = trainer.state.fn
        assert fn is not None
        super().__init__(trainer, fn, RunningStage.VALIDATING, verbose=False, inference_mode=False)
        self._combined_loader = loader
        self._max_batches = list(batches)

    def setup_data(self) -> None:
        """The loaders are already there."""

    @property
    def batches_seen(self) -> int:
        """How many batches went through the last run."""
        return int(self.batch_progress.total.completed)

    def directions(self) -> dict[str, bool | None]:
        """Return for each logged torchmetrics object whether higher is better."""
        return {
            item.meta.name: item.value.higher_is_better
            for item in self._results.result_metrics
            if isinstance(item.value, Metric)
        }


class HeldBatches:
    """Batches in memory as a dataloader; a list would be taken apart down to its tensors."""

    def __init__(self, batches: Sequence[Any]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)


@contextmanager
def quiet(
    trainer: Trainer, model: LightningModule, callbacks: Sequence[Callback], seed: int
) -> Iterator[None]:
    """Let ``trainer`` validate ``model`` on the CPU in float32, unseen by anybody else.

    For the time of the ``with`` the trainer has only ``callbacks``, no loggers, no profiler, a
    plain CPU strategy in 32 bits and fresh metrics; random numbers start from ``seed``. All of it
    is put back on every path.
    """
    connector = trainer._logger_connector
    before = {
        "callbacks": trainer.callbacks,  # type: ignore[attr-defined]
        "loggers": trainer.loggers,
        "profiler": trainer.profiler,  # type: ignore[attr-defined]
        "should_stop": trainer.should_stop,
        "_last_val_time": getattr(trainer, "_last_val_time", None),
    }
    strategy, stage = trainer.strategy, trainer.state.stage
    metrics = saved_metrics(trainer)
    loops = trainer.fit_loop.epoch_loop.val_loop, trainer.validate_loop
    try:
        with isolate_rng():
            torch.manual_seed(seed)
            trainer.callbacks = list(callbacks)  # type: ignore[attr-defined]
            trainer.loggers = [DummyLogger() for _ in trainer.loggers]
            trainer.profiler = PassThroughProfiler()  # type: ignore[attr-defined]
            trainer._accelerator_connector.strategy = _cpu(model)
            trainer.state.stage = RunningStage.VALIDATING
            vars(connector).update({key: _empty(key) for key in metrics})
            model.trainer = trainer
            yield
    finally:
        trainer.fit_loop.epoch_loop.val_loop, trainer.validate_loop = loops
        trainer._accelerator_connector.strategy = strategy
        trainer.state.stage = stage
        for key, value in before.items():
            setattr(trainer, key, value)
        vars(connector).update(metrics)
        model.trainer = None


def saved_metrics(trainer: Trainer) -> dict[str, Any]:
    """Return what the trainer's logger connector holds, to be put back."""
    names = ("progress_bar_metrics", "logged_metrics", "callback_metrics")
    held = (*(f"_{name}" for name in names), "_current_fx", "_first_loop_iter")
    return {name: getattr(trainer._logger_connector, name) for name in held}


def _empty(name: str) -> dict[str, Any] | None:
    return {} if name.endswith("_metrics") else None


def run(trainer: Trainer, loop: BorrowedLoop) -> dict[str, float]:
    """Run ``loop`` in place of the trainer's own and return what the module logged.

    Only inside ``quiet``. Loaders and torchmetrics objects are left as they were found.
    """
    loader = loop._combined_loader
    assert loader is not None
    limits = loader._limits
    for module in trainer.lightning_module.modules():
        if isinstance(module, Metric):
            module.reset()
    if trainer.state.fn == TrainerFn.FITTING:
        trainer.fit_loop.epoch_loop.val_loop = loop
    else:
        trainer.validate_loop = loop
    try:
        loop.run()
        return {key: float(value) for key, value in trainer.callback_metrics.items()}
    finally:
        loop.teardown()
        loader.limits = limits


def _cpu(model: LightningModule) -> SingleDeviceStrategy:
    strategy = SingleDeviceStrategy(
        device=torch.device("cpu"), accelerator=CPUAccelerator(), precision_plugin=Precision()
    )
    strategy.connect(model)
    return strategy
