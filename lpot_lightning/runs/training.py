"""How a training for int8 begins."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import QuantizationError, quoted
from lpot_lightning.judging.protocols import Feed
from lpot_lightning.quantization.backend import Training, TrainingBackend
from lpot_lightning.recipe import Recipe
from lpot_lightning.runs.op_selection import space_of
from lpot_lightning.runs.options import Options
from lpot_lightning.runs.preparation import Say, calibrate, prepare
from lpot_lightning.tuning.islands import without_islands
from lpot_lightning.tuning.space import Space

FEW = 32
"""Samples that the graphs of a training are made and proved on."""


def prepare_training(
    model: nn.Module,
    backend: TrainingBackend,
    conf: Conf,
    feed: Feed,
    options: Options,
    say: Say,
    *,
    avoid: Collection[str] = (),
) -> Training:
    """Find what of ``model`` is to be int8, as after training, and return how it is trained.

    Its parts are chosen and its kernels proved as they are for post-training quantization.

    Args:
        model: a copy of the one to be trained, in eval mode, float32, on the CPU.
        backend: the way to int8.
        conf: checked.
        feed: shows models data; a few samples are enough.
        options: see there.
        say: takes what the user should know.
        avoid: paths of modules that may be no parts; what they hold may.

    Raises:
        QuantizationError: if it is int8 already, not float32, or has nothing to quantize.
        ConfError: if nothing is left to be int8.
    """
    model, prepared, _ = prepare(model, backend, feed, options, say, for_training=True, avoid=avoid)
    space_of(prepared, conf, options.modules)  # names that match nothing are told here
    calibrate(model, prepared, feed, options.ranks, say)
    space = space_of(prepared, conf, options.modules)
    for note in space.notes:
        say(note)
    return backend.training(prepared, _first_recipe(space, conf))


def _first_recipe(space: Space, conf: Conf) -> Recipe:
    """Return what is tried first when the training is over."""
    recipe = space.all_int8()
    if conf.tuning.strategy.name != "auto":
        return recipe
    cleaned = without_islands(recipe, space)
    return cleaned if cleaned.int8_ops else recipe


def check_trainable(model: nn.Module, training: Training) -> None:
    """Raise a ``QuantizationError`` if no layer that is trained for int8 can be trained.

    Args:
        model: the one that is to be trained.
        training: for it.
    """
    layers = [model.get_submodule(layer) for layer in training.layers]
    if not any(value.requires_grad for layer in layers for value in layer.parameters()):
        names = quoted(training.layers[:4]) or "there is none"
        raise QuantizationError(
            "no layer that would be int8 can be trained: none of its parameters has"
            f" `requires_grad` ({names}); unfreeze some, or use post-training quantization,"
            " which needs no training"
        )
