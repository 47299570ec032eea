"""A `train` block of the YAML as the function that trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lpot_lightning.conf.blocks import NamedConf, TrainConf
from lpot_lightning.data.batches import goes_once, labelled
from lpot_lightning.data.meter import one_tensor
from lpot_lightning.errors import ConfError, DataError, in_short
from lpot_lightning.lpot.given import LoaderWithOrigin
from lpot_lightning.machine.random_numbers import generators_kept

LossFunction = Callable[[Any, Any], torch.Tensor]


class TrainLoop:
    """Trains a model in place by the ``train`` block of a conf, and is called as a ``q_func`` is.

    It is LPOT's loop: for each epoch in [``start_epoch``, ``end_epoch``), and in it for each of
    at most ``iteration`` batches: output, loss, gradients, a step of the optimizer. The hooks are
    called around them, for what works on the weights meanwhile.

    Args:
        train: checked by ``train_loop_of``.
        loader: gives batches ``(input, label)``.
        hooks: called at the begin and the end of epochs and batches.

    Example::

        shown = LoaderWithOrigin(loader, "`q_dataloader`")
        q_func = train_loop_of(conf.quantization.train, shown, where="q.yaml: `train`")
        q_func(model)
    """

    def __init__(self, train: TrainConf, loader: LoaderWithOrigin, hooks: Hooks | None) -> None:
        self._train, self._loader, self._origin = train, loader.batches, loader.origin
        self._hooks = hooks or Hooks()

    def __call__(self, model: nn.Module) -> None:
        """Train ``model``.

        Raises:
            DataError: if the data cannot be read, have no labels, or there are none.
            ConfError: if the model has nothing to train.
        """
        train, hooks = self._train, self._hooks
        optimizer, criterion = optimizer_of(train, model), loss_function_of(train)
        with generators_kept([self._loader]):
            for epoch in range(train.start_epoch, train.end_epoch or 0):
                model.train()
                hooks.on_epoch_begin(epoch)
                self._epoch(model, optimizer, criterion)
                hooks.on_epoch_end()

    def _epoch(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, criterion: LossFunction
    ) -> None:
        seen = 0
        batches = labelled(self._loader, origin=self._origin, most=self._train.iteration)
        for call, label in batches:
            self._hooks.on_batch_begin(seen)
            if label is None:
                raise DataError(
                    f"a batch of {self._origin} has no label; allowed: `(input, label)`"
                )
            loss = self._loss(criterion, call.of(model), label)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            self._hooks.on_post_grad()
            optimizer.step()
            self._hooks.on_batch_end()
            seen += 1
        if not seen:
            raise DataError(f"{self._origin} is empty: there is no batch to train on")

    def _loss(self, criterion: LossFunction, output: Any, label: Any) -> torch.Tensor:
        try:
            return criterion(one_tensor(output), label)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise DataError(
                f"the criterion of the `train` block cannot be taken of the model's output and the"
                f" label of {self._origin} ({in_short(error)}); `CrossEntropyLoss` takes scores"
                " (batch, classes) and class numbers (batch,)"
            ) from error


class Hooks:
    """What is called while a model trains; nothing, unless a subclass does something."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before an epoch."""

    def on_batch_begin(self, batch_id: int) -> None:
        """Before a batch."""

    def on_post_grad(self) -> None:
        """After the gradients, before the step."""

    def on_batch_end(self) -> None:
        """After the step."""

    def on_epoch_end(self) -> None:
        """After an epoch."""


def train_loop_of(
    train: TrainConf, loader: LoaderWithOrigin, *, where: str, hooks: Hooks | None = None
) -> TrainLoop:
    """Return what trains a model by a ``train`` block.

    Args:
        train: ``quantization.train`` or ``pruning.train``.
        loader: gives batches ``(input, label)``.
        where: file and key of the block, for errors.
        hooks: called at the begin and the end of epochs and batches.

    Raises:
        ConfError: if the block lacks something, or asks for what cannot be done.

    Example::

        shown = LoaderWithOrigin(loader, "`q_dataloader`")
        q_func = train_loop_of(conf.quantization.train, shown, where="q.yaml: `train`")
        q_func(model)
    """
    check_train(train, where=where)
    if loader.endless and train.iteration is None:
        raise ConfError(
            f"{where}: `iteration` is missing: {loader.origin} never ends, and it says how many"
            " batches an epoch has"
        )
    if goes_once(loader.batches):
        raise ConfError(
            f"{loader.origin} is a `{type(loader.batches).__name__}`, which can be gone through"
            " once, and each epoch does it again; allowed: a `DataLoader`, or a list of batches"
        )
    return TrainLoop(train, loader, hooks)


def check_train(train: TrainConf, *, where: str) -> None:
    """Check that a ``train`` block says how to train; its data are not looked at.

    Args:
        train: ``quantization.train`` or ``pruning.train``.
        where: file and key of the block, for errors.

    Raises:
        ConfError: if it lacks something, or asks for what cannot be done.
    """
    for name, example in (
        ("optimizer", "`SGD: {learning_rate: 0.001}`"),
        ("criterion", "`CrossEntropyLoss: {}`"),
        ("end_epoch", "`1` for one epoch"),
    ):
        if getattr(train, name) is None:
            raise ConfError(f"{where}: `{name}` is missing; for example {example}")
    if (train.end_epoch or 0) <= train.start_epoch:
        raise ConfError(
            f"{where}: `end_epoch` is {train.end_epoch} and `start_epoch` {train.start_epoch},"
            " which is no epoch at all; allowed: an `end_epoch` above `start_epoch`"
        )
    try:
        optimizer_of(train, nn.Linear(1, 1, device="meta"))
        loss_function_of(train)
    except ConfError as error:
        raise ConfError(f"{where}: {error}") from error


def optimizer_of(train: TrainConf, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer that a ``train`` block names, for all that ``model`` can learn."""
    assert train.optimizer is not None
    learns = [value for value in model.parameters() if value.requires_grad]
    try:
        return OPTIMIZERS[train.optimizer.name](learns, train.optimizer)
    except ValueError as error:
        raise ConfError(f"`optimizer`: {in_short(error)}") from error


def loss_function_of(train: TrainConf) -> LossFunction:
    """Return the criterion that a ``train`` block names."""
    assert train.criterion is not None
    return CRITERIA[train.criterion.name](train.criterion)


def _sgd(learns: list[nn.Parameter], named: NamedConf) -> torch.optim.Optimizer:
    given = dict(named.options)
    return torch.optim.SGD(learns, lr=given.pop("learning_rate"), **given)


def _cross_entropy(named: NamedConf) -> LossFunction:
    reduction = named.options.get("reduction", "mean")
    if reduction == "none":
        raise ConfError(
            "`criterion.CrossEntropyLoss.reduction` is `none`, which gives a loss for each sample,"
            " and a training needs one number; allowed: `mean`, `sum`"
        )
    loss: LossFunction = nn.CrossEntropyLoss(reduction=reduction)
    return loss


OPTIMIZERS: dict[str, Callable[[list[nn.Parameter], NamedConf], torch.optim.Optimizer]] = {
    "SGD": _sgd
}
"""LPOT's optimizers for PyTorch."""
CRITERIA: dict[str, Callable[[NamedConf], LossFunction]] = {"CrossEntropyLoss": _cross_entropy}
"""LPOT's criteria for PyTorch."""
