"""How a training for int8 begins."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import QuantizationError, quoted
from lpot_lightning.judging.protocols import Feed
from lpot_lightning.machine.ranks import Ranks
from lpot_lightning.module.flow import Flow, roles
from lpot_lightning.quantization.backend import Backend, Training
from lpot_lightning.runs.op_selection import space_of
from lpot_lightning.runs.options import Options
from lpot_lightning.runs.preparation import Say, calibrate, prepare
from lpot_lightning.runs.ranker import allowed_by, asked_by
from lpot_lightning.tuning.repair import EQUALIZATION, equalized

_SHOWN = 6
FEW = 32
"""Samples that a training begins with."""


def prepare_training(
    model: nn.Module,
    backend: Backend,
    conf: Conf,
    feed: Feed,
    options: Options,
    say: Say,
    *,
    left_out: Mapping[str, str] | None = None,
) -> Training:
    """Find what of ``model`` is to be int8, as after training, and return how it is trained.

    The training begins with what a few batches tell: the range of each input, and channels that are
    equalized where that lowers the error of an op clearly; floats stay what they are by it.

    Args:
        model: a copy of the one to be trained, in eval mode, float32, on the CPU.
        backend: the way to int8.
        conf: checked.
        feed: shows models data; a few samples are enough.
        options: see there.
        say: takes what the user should know.
        left_out: paths of modules that are not rounded, with the reason.

    Raises:
        QuantizationError: if it is int8 already, not float32, or has nothing to quantize.
        ConfError: if nothing is left to be int8.
    """
    model, prepared, _ = prepare(
        model, backend, feed, options, say, for_training=True, left_out=left_out
    )
    space_of(prepared, conf, options.modules)  # names that match nothing are told here
    calibrate(model, prepared, feed, options.ranks, say)
    space = space_of(prepared, conf, options.modules)
    for note in space.notes:
        say(note)
    ranks, recipe, asked = options.ranks, space.all_int8(), conf.quantization.recipes
    if EQUALIZATION in allowed_by(asked):
        recipe, evened = equalized(
            recipe,
            space,
            lambda recipe, ops: ranks.agreed(ranks.together(lambda: prepared.error(recipe, ops))),
            always=EQUALIZATION in asked_by(asked),
        )
        if evened:
            say(f"channels are equalized before the training, of {quoted(evened, _SHOWN)}")
    return backend.training(prepared, recipe)


def frozen_roles(model: nn.Module, feed: Feed, ranks: Ranks) -> dict[str, bool]:
    """Return the outermost frozen modules, and whether their outputs go into what trains.

    There are none where no module trains: then there is nothing to compare with.

    Args:
        model: the one that is to be trained.
        feed: shows one batch to copies of it.
        ranks: who else does; what any of them sees counts.
    """
    inside = [one for child in model.children() for one in child.parameters()]
    if not any(one.requires_grad for one in inside) or not roles(model, (), ()):
        return {}
    flow = _flow_of(feed.fresh(), feed)
    seen = ranks.gather((sorted(flow.feeding), sorted(flow.called)))
    feeding, called = ({one for each in seen for one in each[i]} for i in (0, 1))
    return roles(model, feeding, called)


def _flow_of(model: nn.Module, feed: Feed) -> Flow:
    flow = Flow(model)
    with flow.looking():
        works = feed.try_out(model)
    return flow if works is model else _flow_of(works, feed)  # the data was changed


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
