"""A training for int8 that is the user's own function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from lpot_lightning.errors import DataError, QuantizationError
from lpot_lightning.machine.signals import check
from lpot_lightning.quantization.backend import Training
from lpot_lightning.runs.training import check_trainable


def train_by(
    q_func: Callable[[nn.Module], Any], model: nn.Module, training: Training
) -> Mapping[str, Any]:
    """Let ``q_func`` train ``model``, which rounds as int8 will meanwhile.

    Ranges are learned from all that passes while the model itself is in training mode, also in
    parts of it that are not. A batch is over when the next one begins.

    Args:
        q_func: takes the model, in training mode, and trains it as it likes.
        model: is trained.
        training: for it.

    Returns:
        what ``Training.state`` gives when it is over.

    Raises:
        QuantizationError: if nothing can be trained, or ``q_func`` trained something else.
        DataError: if the training went to NaN or infinity.
    """
    check_trainable(model, training)
    model.train()

    def end_last_batch(module: nn.Module, _: object) -> None:
        if module.training:
            training.end_batch()

    training.observing = True
    training.follow(model)
    training.attach(model)
    hook = model.register_forward_pre_hook(end_last_batch)
    try:
        returned = q_func(model)
    finally:
        hook.remove()
        training.detach()
        check()
    training.end_batch()
    check_same(model, returned)
    _check_seen(training)
    training.check_finite()
    _check_weights(model)
    return training.state()


def check_same(model: nn.Module, returned: object) -> None:
    """Raise a ``QuantizationError`` if a ``q_func`` returned another model than it was given."""
    if isinstance(returned, nn.Module) and returned is not model:
        raise QuantizationError(
            f"`q_func` returned another `{type(returned).__name__}` than the model it was given:"
            " train that one, in place"
        )


def _check_seen(training: Training) -> None:
    if not training.has_seen_data:
        raise QuantizationError(
            "`q_func` taught the model no range of activations: it was shown no data in training"
            " mode; call the model, after `model.train()`"
        )


def _check_weights(model: nn.Module) -> None:
    for name, value in model.named_parameters():
        if not torch.isfinite(value).all():
            raise DataError(
                f"`{name}` is not finite after `q_func`: look for a learning rate that is too"
                " high, or for NaN in the data"
            )
