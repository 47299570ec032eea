"""Weights that are averaged after the last checkpoint was saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging
from torch import Tensor, nn

from lpot_lightning.judging.protocols import Monitor
from lpot_lightning.trainer.checkpoint import Choice, keeper_of
from lpot_lightning.trainer.weights import Weights


def without_average(trainer: Trainer, module: LightningModule, weights: Weights) -> bool:
    """Return whether ``module`` holds averaged weights that a checkpoint has not.

    ``StochasticWeightAveraging`` hands them over when the training ends, after the last
    validation. The checkpoints of ``WeightAveraging`` and its kind hold the average themselves.
    """
    if not any(_is_from(one, module) for one in _averagings(trainer)):
        return False
    return not _same(dict(module.named_parameters()), weights.state)


def average_comes_first(
    callbacks: Sequence[Callback], choice: Choice, monitor: Monitor | None
) -> bool:
    """Return whether ``choice`` means the average more than a file from before it.

    Without a ``monitor`` the best checkpoint is only the one that was saved last.
    """
    kept = keeper_of(callbacks, monitor)
    return choice == "best" and kept is not None and kept.monitor is None


def renews_statistics(trainer: Trainer) -> bool:
    """Return whether batches pass only to renew the statistics of BatchNorm for an average."""
    return bool(trainer.fit_loop._skip_backward)


def averages(trainer: Trainer) -> list[nn.Module]:
    """Return the modules in which callbacks hold averaged weights, named as in the user's."""
    found = []
    for one in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(one, StochasticWeightAveraging | WeightAveraging):
            held = one._average_model
            inner = getattr(held, "module", held) if isinstance(one, WeightAveraging) else held
            found += [inner] if isinstance(inner, nn.Module) else []
    return found


def _averagings(trainer: Trainer) -> Iterable[StochasticWeightAveraging]:
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return (one for one in callbacks if isinstance(one, StochasticWeightAveraging))


def _is_from(averaging: StochasticWeightAveraging, module: LightningModule) -> bool:
    """Return whether the average was made, and is what ``module`` holds."""
    if averaging.n_averaged is None or averaging._average_model is None:
        return False
    average = dict(averaging._average_model.named_parameters())
    return _same(average, dict(module.named_parameters()))


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Return whether both hold the same where they hold something of the same name."""
    return all(torch.equal(one[name].cpu(), other[name].cpu()) for name in one.keys() & other)
