"""How a training for int8 begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import QuantizationError, quoted
from lpot_lightning.judging.protocols import Feed
from lpot_lightning.machine.ranks import Ranks
from lpot_lightning.module.flow import Flow, roles
from lpot_lightning.quantization.backend import BACKENDS, ENGINE, Training
from lpot_lightning.runs.frozen import TEACHER, ExactModules, told
from lpot_lightning.runs.model_watch import Changes
from lpot_lightning.runs.op_selection import space_of
from lpot_lightning.runs.options import Options
from lpot_lightning.runs.preparation import Say, calibrate, prepare
from lpot_lightning.runs.ranker import allowed_by, asked_by
from lpot_lightning.tuning.repair import EQUALIZATION, equalized

_SHOWN = 6
FEW = 32
"""Samples that a training begins with."""


def first_training(
    model: nn.Module, conf: Conf, feed: Feed, options: Options, say: Say
) -> Training:
    """Find what of ``model`` is to be int8, as after training, and return how it is trained.

    The training begins with what a few batches tell: the range of each input, and channels that are
    equalized where that lowers the error of an op clearly; floats stay what they are by it.

    Args:
        model: a copy of the one to be trained, in eval mode, float32, on the CPU.
        conf: checked.
        feed: shows models data; a few samples are enough.
        options: see there; ``modules`` also decide which frozen modules round.
        say: takes what the user should know, also which frozen modules round.

    Raises:
        QuantizationError: if it is int8 already, not float32, or has nothing to quantize.
        ConfError: if nothing is left to be int8.
    """
    found = _roles(model, feed, options)
    exact = [path for path, feeds in found.items() if not feeds]
    training = _prepared(model, conf, feed, options, exact, say)
    _tell(found, training, say)
    return training


def next_training(
    model: nn.Module, conf: Conf, feed: Feed, options: Options, changes: Changes, say: Say
) -> tuple[Training, ExactModules]:
    """Return how ``model`` is trained that is not all what it was, and what of it stays exact.

    What layers have learned that are what they were is for the caller to take over.

    Args:
        model: see ``first_training``; so are ``conf``, ``feed`` and ``options``.
        changes: since then.
        say: takes what was found of modules that were frozen before the training began.
    """
    new = _roles(model, feed, options) if changes.exchanged or changes.frozen else {}
    found = {path: feeds for path, feeds in new.items() if changes.is_new(path)}
    exact = changes.exact.paths.union(path for path, feeds in found.items() if not feeds)
    training = _prepared(model, conf, feed, options, exact, _to_nobody)
    frozen = {path: feeds for path, feeds in found.items() if path in changes.frozen}
    _tell(frozen, training, say)
    return training, ExactModules(exact)


def _to_nobody(_: str) -> None:
    """Say nothing: it was said when the training began."""


def _tell(found: Mapping[str, bool], training: Training, say: Say) -> None:
    if line := told(found, (*training.int8_ops, *training.fp32_ops, *training.excluded)):
        say(line)


def _roles(model: nn.Module, feed: Feed, options: Options) -> dict[str, bool]:
    """Return what is frozen, and whether it feeds what trains; ``modules`` decide otherwise."""
    return {} if options.modules else frozen_roles(model, feed, options.ranks)


def _prepared(
    model: nn.Module, conf: Conf, feed: Feed, options: Options, exact: Iterable[str], say: Say
) -> Training:
    """Return how ``model`` is trained where the modules at ``exact`` are not rounded."""
    backend, left_out = BACKENDS[ENGINE](), dict.fromkeys(sorted(exact), TEACHER)
    model, prepared, _ = prepare(
        model, backend, feed, options, say, for_training=True, left_out=left_out
    )
    space_of(prepared, conf, options.modules, model)  # names that match nothing are told here
    calibrate(model, prepared, feed, options.ranks, say)
    space = space_of(prepared, conf, options.modules, model)
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
