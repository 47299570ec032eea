"""LPOT's imperative way to prune, without a Trainer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from lpot_lightning.conf.ownership import check_for_pruning, what_arguments_replace
from lpot_lightning.conf.schema import PrunerConf
from lpot_lightning.errors import ConfError
from lpot_lightning.lpot.given import Given, first_given, warn_of_what_is_left
from lpot_lightning.lpot.imperative import Parts
from lpot_lightning.lpot.prune_plainly import PlainPruning, check_given, find_channels_by
from lpot_lightning.lpot.saving import saving
from lpot_lightning.lpot.train_block import Hooks
from lpot_lightning.machine.audible import audible
from lpot_lightning.pruning.channels.group import ChannelGroups
from lpot_lightning.pruning.masks import Masks
from lpot_lightning.pruning.model_pruner import ModelPruner, prunes_channels
from lpot_lightning.runs.pruning_result import NAMES, PruningResult, sparsity_of_all

_LOG = logging.getLogger(__name__)


class Pruning(Parts, Hooks):
    """Let weights of a model go to zero while your own loop trains it; no Trainer is needed.

    Your loop calls ``on_epoch_begin``, ``on_batch_begin``, ``on_batch_end`` and ``on_epoch_end``;
    for ``gradient_sensitivity``, ``on_post_grad`` between ``backward`` and the step, or else the
    gradients have to be there in ``on_batch_end`` still. They prune ``model`` in place, and its
    parameters stay the same objects. Schedules in steps count the calls of ``on_batch_end``: where
    gradients are accumulated, call it after the batches in which the optimizer made a step.

    Or call the object: then a copy of the model is trained by ``q_func``, or by ``pruning.train``
    of the YAML, judged, compared with the dense model, and written down; the model itself is left
    as it is.

    Args:
        conf: LPOT's user YAML with a ``pruning`` section: a path, a mapping or an OmegaConf object.
        conf_fname: the same under LPOT's name.

    Attributes:
        model: an ``nn.Module``. While the object is called, the copy that is trained.
        q_dataloader: gives batches ``(input, label)`` to train on by ``pruning.train``, in place of
            ``pruning.train.dataloader``.
        q_func: takes the copy in training mode on the CPU and trains it in place, calling the
            hooks; in place of ``pruning.train``.
        eval_dataloader: gives batches ``(input, label)`` to judge on by the metric, in place of
            ``evaluation.accuracy.dataloader``.
        eval_func: takes a model in eval mode on the CPU and returns its accuracy, one number; in
            place of a metric and its data.
        result: the ``PruningResult`` of the last call; ``None`` before, and after one that failed.

    Raises:
        ConfError: if the conf asks for what cannot be done.

    Example::

        pruning = Pruning("pruning.yaml")

        def train(model):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            for epoch in range(6):
                pruning.on_epoch_begin(epoch)
                for number, (x, y) in enumerate(loader):
                    pruning.on_batch_begin(number)
                    optimizer.zero_grad()
                    loss(model(x), y).backward()
                    optimizer.step()
                    pruning.on_batch_end()
                pruning.on_epoch_end()

        pruned = pruning(model, q_func=train, eval_func=accuracy)
    """

    _alike: ClassVar[Mapping[str, str]] = {
        "pruning_func": "q_func",
        "train_dataloader": "q_dataloader",
    }

    def _set_up(self) -> None:
        check_for_pruning(self.conf)
        self.q_dataloader: Any = None
        self.q_func: Any = None
        self.eval_dataloader: Any = None
        self.eval_func: Any = None
        self.result: PruningResult | None = None
        self._pruner: ModelPruner | None = None
        self._pruned: nn.Module | None = None
        self._in_epoch = self._observed = False
        self._steps = 0

    @property
    def masks(self) -> Masks | None:
        """What is pruned of ``model``; ``None`` before the first epoch and after a call.

        Example::

            pruning.model = model
            pruning.on_epoch_begin(0)
            pruning.masks.apply_to(ema.module)  # an average of your own
        """
        return None if self._pruner is None else self._pruner.masks

    def on_epoch_begin(self, epoch: int) -> None:
        """Prune to what the schedules in epochs ask of one.

        Args:
            epoch: counted from 0.

        Raises:
            ConfError: if no model is set, the YAML does not fit it, or ``epoch`` is no epoch.
            PruningError: if gradients are needed to prune, and none was seen.
        """
        if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
            raise ConfError(f"`epoch` is `{epoch!r}`; allowed: a whole number, counted from 0")
        pruner = self._pruner_of_the_model()
        if pruner.begin_epoch(epoch):
            share = sparsity_of_all(pruner.layers())
            _LOG.info("epoch %d: %.1f%% of the weights to prune are zero", epoch, 100 * share)
        self._in_epoch = True

    def on_batch_begin(self, batch_id: int) -> None:
        """Prune to what the schedules in steps ask of the next one.

        Args:
            batch_id: of any kind; steps are counted over all epochs, by ``on_batch_end``.

        Raises:
            ConfError: if no epoch has begun.
            PruningError: as for ``on_epoch_begin``.
        """
        self._begin_step(self._running("on_batch_begin"))

    def _begin_step(self, pruner: ModelPruner) -> None:
        if pruner.begin_step(self._steps):
            share = sparsity_of_all(pruner.layers())
            _LOG.info("step %d: %.1f%% of the weights to prune are zero", self._steps, 100 * share)

    def on_post_grad(self) -> None:
        """Take in the gradients: after ``backward``, before the step."""
        self._running("on_post_grad").observe()
        self._observed = True

    def on_batch_end(self) -> None:
        """Make what is pruned zero again, after the step of the optimizer.

        Raises:
            ConfError: if no epoch has begun.
        """
        pruner = self._running("on_batch_end")
        if not self._observed:
            pruner.observe()
        self._observed = False
        self._begin_step(pruner)  # where `on_batch_begin` was not called
        self._steps += 1
        pruner.apply()

    def on_epoch_end(self) -> None:
        """Say that an epoch is over; what is pruned is zero.

        Raises:
            ConfError: if no epoch has begun.
        """
        self._running("on_epoch_end").apply()
        self._in_epoch = False

    def _running(self, hook: str) -> ModelPruner:
        if not self._in_epoch or self._pruner is None:
            raise ConfError(f"`{hook}` is called outside of an epoch: call `on_epoch_begin` first")
        return self._pruner

    def _pruner_of_the_model(self) -> ModelPruner:
        """Return what prunes ``model``; a new model gets a new one."""
        if self._pruner is None or self._pruned is not self.model:
            if not isinstance(self.model, nn.Module):
                raise ConfError(
                    f"`model` is a `{type(self.model).__name__}`: set `pruning.model` to an"
                    " `nn.Module` before the first hook"
                )
            self._take_up(self.model, self._found(self.model))
        assert self._pruner is not None
        return self._pruner

    def _found(self, model: nn.Module) -> ChannelGroups | None:
        """Return the groups of a model's channels, if a pruner needs them."""
        if not prunes_channels(self._pruners):
            return None
        return find_channels_by(model, self._given(), self.conf)

    def _take_up(self, model: nn.Module, found: ChannelGroups | None) -> ModelPruner:
        """Let the hooks prune ``model`` from now on."""
        self._let_go()
        self.model = self._pruned = model
        with audible(logging.getLogger("lpot_lightning")):
            self._pruner = ModelPruner(model, self._pruners, channels=found, say=_LOG.info)
        return self._pruner

    @property
    def _pruners(self) -> tuple[PrunerConf, ...]:
        assert self.conf.pruning is not None
        return self.conf.pruning.approach.weight_compression.resolved()

    def _let_go(self) -> None:
        if self._pruner is not None:
            self._pruner.close()
        self._pruner = self._pruned = None
        self._in_epoch = self._observed = False
        self._steps = 0

    def _given(self, **given: Any) -> Given:
        """Return what is given to a call, and by attributes where it is not."""
        names = ("model", "q_dataloader", "q_func", "eval_dataloader", "eval_func")
        values = {name: first_given(given.get(name), getattr(self, name)) for name in names}
        return Given(**values, metric=self._meter)

    def __call__(
        self,
        model: nn.Module | None = None,
        q_dataloader: Any = None,
        q_func: Any = None,
        eval_dataloader: Any = None,
        eval_func: Any = None,
    ) -> nn.Module:
        """Train and prune a copy of a model, judge it, write it down, and return it.

        What is given here comes before the attributes.

        Args:
            model: see the attribute; so are the others.
            q_dataloader: see the attribute.
            q_func: see the attribute.
            eval_dataloader: see the attribute.
            eval_func: see the attribute.

        Returns:
            The pruned model, also where it misses the goal; ``result.status`` tells. Where channels
            were pruned, it is smaller. It has LPOT's ``save(folder)``, which copies its files
            there, unless its class has a ``save``.

        Raises:
            LpotError: of the kind that says what is wrong; ``BusyError`` if another run uses the
                workspace.
            Exception: what ``q_func`` raises.
            SystemExit: with 130 for Ctrl-C and 143 for SIGTERM; weights that are trained and not
                judged yet are in ``unjudged.pt`` then.

        Example::

            pruned = pruning(model, q_func=train, eval_func=accuracy)
        """
        given = self._given(
            model=model,
            q_dataloader=q_dataloader,
            q_func=q_func,
            eval_dataloader=eval_dataloader,
            eval_func=eval_func,
        )
        check_given(given, self.conf)
        warn_of_what_is_left(self.conf, given, self._replaced(given))
        self.result = None
        before = self.model
        try:
            with audible(logging.getLogger("lpot_lightning")):
                self.result = PlainPruning(given, self.conf, self).run(self._take_up)
        finally:
            self._let_go()
            self.model = before
        return saving(self.result, NAMES)

    def _replaced(self, given: Given) -> list[str]:
        keys = what_arguments_replace(self.conf, given.names - {"q_func", "q_dataloader"})
        train = None if self.conf.pruning is None else self.conf.pruning.train
        if train is not None and given.q_func is not None:
            keys = ["pruning.train", *keys]
        elif train is not None and train.dataloader is not None and given.q_dataloader is not None:
            keys = ["pruning.train.dataloader", *keys]
        return keys
