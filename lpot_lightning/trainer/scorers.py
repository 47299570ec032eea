"""The user's callbacks that log the metric that models are judged by."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LambdaCallback

from lpot_lightning.module.untouched import as_before
from lpot_lightning.trainer.package import NAMES, either

_HOOKS = (  # in which `log` is allowed, the usual one first
    "on_validation_epoch_end",
    "on_validation_batch_end",
    "on_validation_batch_start",
    "on_validation_epoch_start",
    "on_validation_start",
)
_NOT_THE_USERS = ("lpot_lightning.", *(f"{name}." for name in NAMES))


def scorers(callbacks: Sequence[Callback]) -> list[Callback]:
    """Return the callbacks that may log in a validation; those that log at its end come first.

    What Lightning and this package bring along logs no accuracy, and would save checkpoints, stop
    the training or exchange weights.
    """
    may = [one for one in callbacks if _is_the_users(one) and _hooks_of(one)]
    return sorted(may, key=lambda one: _HOOKS.index(_hooks_of(one)[0]))


def may_log(callbacks: Sequence[Callback]) -> bool:
    """Whether any callback of the user's may have logged a metric, one that is no scorer, too.

    That are those that derive from what Lightning brings along.
    """
    theirs = (one for one in callbacks if not type(one).__module__.startswith(_NOT_THE_USERS))
    return bool(scorers(callbacks)) or any(map(_hooks_of, theirs))


def _is_the_users(callback: Callback) -> bool:
    kinds = (one for one in type(callback).__mro__ if issubclass(one, either(Callback)))
    return all(
        not one.__module__.startswith(_NOT_THE_USERS)
        for one in kinds
        if one not in either(Callback, LambdaCallback)
    )


def _hooks_of(callback: Callback) -> list[str]:
    """Return the hooks that are not those of the base; ``LambdaCallback`` keeps them in itself."""
    return [
        name
        for name in _HOOKS
        if name in vars(callback)
        or all(getattr(type(callback), name) is not getattr(one, name) for one in either(Callback))
    ]


@contextmanager
def lent(
    callbacks: Sequence[Callback],
    trainer: Trainer,
    owner: LightningModule,
    model: LightningModule,
) -> Iterator[Sequence[Callback]]:
    """Give what stands for callbacks of a fit while they watch another model.

    That are copies, which count and collect for themselves; where one cannot be copied it is the
    callback itself, whose attributes are put back. Lists of their classes are put back in any case.

    Args:
        callbacks: the user's own.
        trainer: of the fit; copies see the same one, and its data and loggers.
        owner: the user's module; where a callback has kept it, or a part of it, it sees the same
            of ``model``.
        model: that is judged.
    """
    if not callbacks:
        yield callbacks
        return
    parts = dict(model.named_modules())
    known = {id(one): parts.get(name, one) for name, one in owner.named_modules()}
    data = trainer.datamodule  # type: ignore[attr-defined]
    shared = {id(one): one for one in (trainer, data, *trainer.loggers, *trainer.callbacks)}  # type: ignore[attr-defined]
    for one in callbacks:
        shared.pop(id(one), None)
    with as_before(callbacks):
        try:
            copies = copy.deepcopy(list(callbacks), {**shared, **known})
        except Exception:  # locks, open files, generators: whatever a callback may hold
            copies = list(callbacks)
            _exchange(copies, known)
        yield copies


def _exchange(callbacks: Sequence[Callback], known: Mapping[int, object]) -> None:
    """Let attributes that are the user's module, or parts of it, be those of the judged one."""
    for callback in callbacks:
        for name, value in vars(callback).items():
            if id(value) in known:
                vars(callback)[name] = known[id(value)]
