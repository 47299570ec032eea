"""The callbacks of a trainer that keep weights: its checkpoints, and its averages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    ModelCheckpoint,
    StochasticWeightAveraging,
    WeightAveraging,
)
from torch import Tensor, nn

from lpot_lightning.judging.protocols import Monitor
from lpot_lightning.trainer.monitor import is_same
from lpot_lightning.trainer.package import either

Choice = Literal["best", "last", "current"]
CHOICES = ("best", "last", "current")


def keeper_of(callbacks: Sequence[Callback], monitor: Monitor | None) -> ModelCheckpoint | None:
    """Return the ``ModelCheckpoint`` whose best weights are the best, of however many there are.

    Args:
        callbacks: of a trainer, in any order.
        monitor: what models are judged by, where it is known. It is the one that watches that
            metric in that direction, else one that watches any.
    """

    def after(one: ModelCheckpoint) -> tuple[float, ...]:
        watches = monitor is not None and is_same(one.monitor, monitor.name)
        agrees = monitor is not None and (one.mode == "max") == monitor.higher_is_better
        best = watches and agrees
        return not best, not watches, one.monitor is None, not one.best_model_path, _loss(one, best)

    return min(_keepers(callbacks), key=after, default=None)


def _loss(one: ModelCheckpoint, best: bool) -> float:
    """Return how bad the best is that was kept, where several keep the best of one metric."""
    if not best or one.best_model_score is None:
        return 0.0
    return float(one.best_model_score) * (-1 if one.mode == "max" else 1)


def saved_weights(callbacks: Sequence[Callback], choice: Choice, monitor: Monitor | None) -> str:
    """Return the path of the checkpoint whose weights are asked for, ``""`` for the live ones.

    Args:
        callbacks: of a trainer, whose ``ModelCheckpoint``s saved it.
        choice: the best one, the newest of those that are kept as the last, or none.
        monitor: what models are judged by, where it is known.
    """
    if choice == "best" and (kept := keeper_of(callbacks, monitor)) is not None:
        return kept.best_model_path
    if choice == "last" and (last := [one for one in _keepers(callbacks) if one.last_model_path]):
        return max(last, key=lambda one: one._last_global_step_saved).last_model_path
    return ""


def _keepers(callbacks: Sequence[Callback]) -> list[ModelCheckpoint]:
    return [one for one in callbacks if isinstance(one, either(ModelCheckpoint))]


def without_average(trainer: Trainer, module: LightningModule, saved: Mapping[str, Tensor]) -> bool:
    """Return whether ``module`` holds averaged weights that a ``saved`` state has not.

    ``StochasticWeightAveraging`` hands them over when the training ends, after the last
    validation. The checkpoints of ``WeightAveraging`` and its kind hold the average themselves.
    """
    if not any(_is_from(one, module) for one in _averagings(trainer)):
        return False
    return not _same(dict(module.named_parameters()), saved)


def renews_statistics(trainer: Trainer) -> bool:
    """Return whether batches pass only to renew the statistics of BatchNorm for an average."""
    return bool(trainer.fit_loop._skip_backward)


def averages(trainer: Trainer) -> list[nn.Module]:
    """Return the modules in which callbacks hold averaged weights, named as in the user's."""
    found = []
    for one in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(one, either(StochasticWeightAveraging, WeightAveraging)):
            held = one._average_model
            wrapped = isinstance(one, either(WeightAveraging))
            inner = getattr(held, "module", held) if wrapped else held
            found += [inner] if isinstance(inner, nn.Module) else []
    return found


def _averagings(trainer: Trainer) -> Iterable[StochasticWeightAveraging]:
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return (one for one in callbacks if isinstance(one, either(StochasticWeightAveraging)))


def _is_from(averaging: StochasticWeightAveraging, module: LightningModule) -> bool:
    """Return whether the average was made, and is what ``module`` holds."""
    if averaging.n_averaged is None or averaging._average_model is None:
        return False
    average = dict(averaging._average_model.named_parameters())
    return _same(average, dict(module.named_parameters()))


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Return whether both hold the same where they hold something of the same name."""
    return all(torch.equal(one[name].cpu(), other[name].cpu()) for name in one.keys() & other)
