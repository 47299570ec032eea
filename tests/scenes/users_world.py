"""Everything of the user's that a run may borrow, and must give back."""

from __future__ import annotations

import logging
import os
import random
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import nn

from lpot_lightning import QuantizationCallback

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
)


def world(trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Any]:
    """Return a snapshot, by name."""
    return {
        **{f"process: {key}": value for key, value in _process().items()},
        **{f"trainer: {key}": value for key, value in _trainer(trainer).items()},
        **{f"module: {key}": value for key, value in _module(module).items()},
    }


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the names of what differs."""
    names = [*before, *(name for name in after if name not in before)]
    return [name for name in names if not _equal(before.get(name), after.get(name))]


@contextmanager
def kept(trainer: pl.Trainer, module: pl.LightningModule) -> Iterator[None]:
    """Check that what the ``with`` does leaves the user's world as it was, also if it fails."""
    before = world(trainer, module)
    try:
        yield
    finally:
        found = changed(before, world(trainer, module))
        assert not found, f"not as before: {', '.join(found)}"


def watched(callback: QuantizationCallback) -> QuantizationCallback:
    """Check the user's world around ``on_fit_end``, also where that fails."""
    run = type(callback).on_fit_end
    callback.watched = 0

    def on_fit_end(trainer: pl.Trainer, module: pl.LightningModule) -> None:
        callback.watched += 1
        with kept(trainer, module):
            run(callback, trainer, module)

    callback.on_fit_end = on_fit_end
    return callback


def _process() -> dict[str, Any]:
    names = [None, *logging.root.manager.loggerDict]
    loggers = [logging.getLogger(name) for name in names]
    return {
        "torch RNG": torch.get_rng_state(),
        "NumPy RNG": np.random.get_state(),
        "Python RNG": random.getstate(),
        "engine": torch.backends.quantized.engine,
        "threads": torch.get_num_threads(),
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "autocast": torch.is_autocast_enabled("cpu"),
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warnings.filters": list(warnings.filters),
        "showwarning": warnings.showwarning,
        "log handlers": {
            one.name: (list(one.handlers), one.level)
            for one in loggers
            # torch's own takes its handler away by itself, the first time there is nothing to trace
            if (one.handlers or one.level) and one.name != "torch.__trace"
        },
        "signals": [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)],
        # pytest itself writes the name of the scene
        "environment": {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"},
        "folder": os.getcwd(),
    }


def _trainer(trainer: pl.Trainer) -> dict[str, Any]:
    fit, connector = trainer.fit_loop, trainer._logger_connector
    loops = (fit, fit.epoch_loop.val_loop, trainer.validate_loop)
    loaders = [loop._combined_loader for loop in loops if loop._combined_loader is not None]
    parts = [one for loader in loaders for one in loader.flattened]
    return {
        "callbacks": list(map(id, trainer.callbacks)),
        "loggers": list(map(id, trainer.loggers)),
        "state": vars(trainer.state).copy(),
        "metrics": {key: dict(value) for key, value in _metrics(connector).items()},
        "connector": (connector._current_fx, connector._first_loop_iter),
        "strategy": id(trainer.strategy),
        "strategy's model": (id(trainer.strategy._lightning_module), id(trainer.strategy.model)),
        "optimizers": [one.state_dict() for one in trainer.strategy.optimizers],
        "schedulers": [
            dict(one.scheduler.state_dict()) for one in trainer.strategy.lr_scheduler_configs
        ],
        "limits": (trainer.limit_train_batches, trainer.limit_val_batches),
        "profiler": id(trainer.profiler),
        "datamodule": id(trainer.datamodule),
        "should_stop": trainer.should_stop,
        "loops": list(map(id, loops)),
        "fit_loop": fit.state_dict(),
        "validate_loop": trainer.validate_loop.state_dict(),
        "loaders": [(id(loop._combined_loader), id(loop._data_source.instance)) for loop in loops],
        "loaders' limits": [loader._limits for loader in loaders],
        "loaders' generators": [
            one.generator.get_state() for one in parts if getattr(one, "generator", None)
        ],
    }


def _metrics(connector: Any) -> dict[str, dict[str, Any]]:
    names = ("_callback_metrics", "_logged_metrics", "_progress_bar_metrics")
    return {name: getattr(connector, name) for name in names}


def _module(module: pl.LightningModule) -> dict[str, Any]:
    parts = dict(module.named_modules())
    return {
        "weights": {key: value.clone() for key, value in module.named_parameters()},
        "buffers": {key: value.clone() for key, value in module.named_buffers()},
        "identities": [id(value) for value in module.parameters()],
        "requires_grad": [value.requires_grad for value in module.parameters()],
        "gradients": [value.grad is None for value in module.parameters()],
        "parts": {path: id(part) for path, part in parts.items()},
        "attributes": {path: sorted(vars(part)) for path, part in parts.items()},
        "hooks": {path: _hooks(part) for path, part in parts.items()},
        "training": {path: part.training for path, part in parts.items()},
        "trainer": id(module._trainer),
        "lists": {key: list(v) for key, v in vars(module).items() if type(v) is list},
    }


def _hooks(part: nn.Module) -> list[int]:
    return [len(getattr(part, name)) for name in HOOKS]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)
