"""Pruning while a Trainer trains."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from lpot_lightning.callbacks.forget_best import forget_best
from lpot_lightning.callbacks.judged import JudgedCallback, callbacks_of, checked_baseline
from lpot_lightning.callbacks.pruning_checks import (
    check_epochs,
    check_first,
    check_pruning_trainer,
    last_epoch,
)
from lpot_lightning.conf.ownership import check_for_callback
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.conf.schema import PrunerConf
from lpot_lightning.errors import ArtifactError, ConfError
from lpot_lightning.machine.signals import Stopped, uninterrupted
from lpot_lightning.module.stand_in import check_copyable
from lpot_lightning.pruning.channels.plan import ChannelPlan
from lpot_lightning.pruning.masks import Masks
from lpot_lightning.pruning.model_pruner import ModelPruner, prunes_channels, schedule_of
from lpot_lightning.runs.channels import Channels, find_channels
from lpot_lightning.runs.criterion import criterion_of
from lpot_lightning.runs.prune import Dense, finish_pruning
from lpot_lightning.runs.pruned_files import RESULT, judged_left
from lpot_lightning.runs.pruning_result import PruningResult, read_pruning_result, sparsity_of_all
from lpot_lightning.trainer.averaging import averages
from lpot_lightning.trainer.chosen_weights import chosen_weights
from lpot_lightning.trainer.ending import NOT_BEGUN, ending_well
from lpot_lightning.trainer.placed import workspace_in
from lpot_lightning.trainer.progress import end_live_bar
from lpot_lightning.trainer.session import Session
from lpot_lightning.trainer.tuned_run import log_scalars
from lpot_lightning.trainer.validation_feed import ValidationFeed
from lpot_lightning.trainer.weights import Weights

FEW = 8
"""Validation samples that are held where models are only judged."""
_FIELDS: dict[str, Any] = {
    "pruner": dict,
    "start": (float, type(None)),
    "best": (float, type(None)),
}


class PruningCallback(JudgedCallback[PruningResult]):
    """Let weights go to zero, step by step, while a model trains.

    At the start of each epoch the pruners of the YAML take as many weights as their schedules ask
    for; after each step of an optimizer what is pruned is zero again. Parameters stay the same
    objects, so optimizers, checkpoints, averaging and DDP see what they always see. When the fit
    is over a copy is judged by your validation loop and compared with the dense model.

    When the targets are reached, ``ModelCheckpoint`` and ``EarlyStopping`` begin to look for the
    best anew, so that the best model is a pruned one.

    Args:
        conf: LPOT's user YAML with a ``pruning`` section: a path, a mapping or an OmegaConf object.
        monitor: the logged metric that is the accuracy, as for ``QuantizationCallback``.
        modules: names or globs of submodules to which all pruners are restricted.
        baseline: the accuracy of the dense model, in the unit of the metric. If ``None``: the
            better of the weights that the fit begins with, measured by one validation pass before
            the first batch, and of the best validation before pruning began.

    Raises:
        ConfError: when created, if the YAML or an argument asks for what cannot be done; when a fit
            begins, if names match nothing, a pattern does not divide a weight, or the fit ends
            before a target is reached.
        LpotError: when a fit begins, if this Trainer cannot be used, or the workspace not be
            written or is in use by another run.
        SystemExit: with 130 for Ctrl-C and 143 for SIGTERM before the first batch and when the fit
            is over; one line says what is on disk.

    Example::

        pruning = PruningCallback("pruning.yaml", monitor="val_acc")
        Trainer(max_epochs=10, callbacks=[pruning]).fit(model, datamodule=data)
        print(pruning.result.table())
    """

    def __init__(
        self,
        conf: str | Path | dict[str, Any],
        *,
        monitor: str | None = None,
        modules: list[str] | None = None,
        baseline: float | None = None,
    ) -> None:
        read = read_conf(conf)
        check_for_callback(read, "PruningCallback")
        super().__init__(read, monitor, modules)
        self.baseline = checked_baseline(baseline)
        if self.baseline is not None:
            criterion_of(read, True).target(self.baseline)  # no share of nothing
        self._pruner: ModelPruner | None = None
        self._saved: Mapping[str, Any] | None = None
        self._before: tuple[weakref.ref[LightningModule], Mapping[str, Any]] | None = None
        self._start: float | None = None
        self._best: float | None = None
        self._goes_on = self._has_pruned = False
        self._masked_at = -1
        self._channels: Channels | None = None

    @property
    def masks(self) -> Masks | None:
        """What is pruned of the model that is being fitted; ``None`` outside of a fit."""
        return None if self._pruner is None else self._pruner.masks

    def plan(self, module: LightningModule) -> ChannelPlan | None:
        """Return by what pruned channels are cut out of a copy of ``module``, if any are."""
        return None if self._pruner is None else self._pruner.plan(module)

    @property
    def _pruners(self) -> tuple[PrunerConf, ...]:
        assert self.conf.pruning is not None
        return self.conf.pruning.approach.weight_compression.resolved()

    @override
    def _read_result(self, workspace: Path) -> PruningResult:
        return read_pruning_result(workspace / RESULT)

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work, before any training."""
        if stage != "fit":
            return
        check_pruning_trainer(trainer)
        if sum(isinstance(one, PruningCallback) for one in callbacks_of(trainer)) > 1:
            raise ConfError(
                "the Trainer has two callbacks that prune: put all pruners into one YAML"
            )
        check_epochs(trainer, self._pruners)
        super().setup(trainer, pl_module, stage)
        if self._before is not None and self._before[0]() is not pl_module:
            self._before = None
        self._saved = None if self._before is None else self._before[1]
        self._start = self._best = None
        self._goes_on = self._has_pruned = False
        self._masked_at = -1

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the masks of a fit that is gone on with."""
        for name, kind in _FIELDS.items():
            if not isinstance(state_dict.get(name), kind):
                raise ArtifactError(f"`{name}` of the checkpoint's `PruningCallback` is damaged")
        self._saved = state_dict

    @override
    def state_dict(self) -> dict[str, Any]:
        """Return masks, the place in the schedules, and what is known of the dense model."""
        if self._pruner is None:  # also a checkpoint that is saved after the fit has the masks
            return {} if self._before is None else dict(self._before[1])
        return self._state(self._pruner)

    def _state(self, pruner: ModelPruner) -> dict[str, Any]:
        start = self._start if self.baseline is None else self.baseline
        return {"pruner": pruner.state(), "start": start, "best": self._best}

    @override
    @ending_well(lambda: NOT_BEGUN)
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find what is pruned, and measure the dense model."""
        check_copyable(pl_module)
        agree = _from_the_first if trainer.world_size > 1 else _nothing
        channels = self._find_channels(trainer, pl_module)
        self._pruner = ModelPruner(
            pl_module,
            self._pruners,
            self.modules,
            None if channels is None else channels.found,
            agree,
        )
        saved, self._saved, self._channels = self._saved, None, channels
        if saved:
            self._pruner.load(saved["pruner"])
            self._start, self._best = saved["start"], saved["best"]
            self._goes_on, self._has_pruned = True, self._pruner.has_pruned
            share = sparsity_of_all(self._pruner.layers())
            rank_zero_info(f"going on with what is pruned: {share:.1%} of the weights to prune")
        elif self.baseline is None:
            session = self._opened(trainer, pl_module)
            with session.at_work(self.conf):
                judge = session.judge(self.conf, self.monitor)
                self._start = judge.evaluate(session.model(Weights()), "the dense model").accuracy
            self._check_start(trainer.current_epoch)

    def _check_start(self, epoch: int) -> None:
        """Refuse a criterion that is a share of nothing, where no better baseline can come."""
        at_once = any(schedule_of(one).sparsity(epoch) > 0 for one in self._pruners)
        if at_once and self._start == 0:
            criterion_of(self.conf, True).target(0.0)

    def _find_channels(self, trainer: Trainer, module: LightningModule) -> Channels | None:
        """Return the groups of the model's channels, if a pruner needs them."""
        if not prunes_channels(self._pruners):
            return None
        session = self._opened(trainer, module)
        with session.at_work(self.conf):
            feed = self._feed(session, Weights())
            return find_channels(session.model(Weights()), feed, session.ranks, rank_zero_info)

    def _feed(self, session: Session, weights: Weights) -> ValidationFeed:
        """Return what shows models a few validation samples: they are followed, and timed."""
        return session.feed(self.conf, weights, calib="val", samples=FEW)

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prune to what the schedules ask of this epoch."""
        assert self._pruner is not None
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._pruner.begin()
            return  # its one epoch is too short for a schedule
        if not self._goes_on:
            check_first(trainer.current_epoch, self._pruners)
        self._goes_on = True
        reached = self._pruner.reached
        if self._pruner.begin_epoch(trainer.current_epoch):
            self._tell(trainer)
        self._has_pruned = self._has_pruned or self._pruner.has_pruned
        self._mask_averages(trainer)
        if self._pruner.reached and not reached:
            forget_best(trainer, f"epoch {trainer.current_epoch}: the target sparsity is reached")

    def _tell(self, trainer: Trainer) -> None:
        assert self._pruner is not None
        share = sparsity_of_all(self._pruner.layers())
        rank_zero_info(
            f"epoch {trainer.current_epoch}: {share:.1%} of the weights to prune are zero"
        )
        log_scalars(trainer, {"sparsity": share}, trainer.global_step)

    @override
    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Take in the gradients: all of the accumulated batches, of all processes, unscaled."""
        assert self._pruner is not None
        if self._pruner.needs_gradients:
            self._pruner.observe(
                {id(one) for group in optimizer.param_groups for one in group["params"]}
            )

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        """Make what is pruned zero again, if an optimizer made a step."""
        assert self._pruner is not None
        if trainer.fast_dev_run and not self._pruner.reached:  # type: ignore[attr-defined]
            self._pruner.finish()
            self._has_pruned = self._pruner.has_pruned
        by_hand = not pl_module.automatic_optimization  # where not every step is counted
        if by_hand or trainer.global_step != self._masked_at:
            if exchanged := self._pruner.apply():
                names, more = ", ".join(f"`{one}`" for one in exchanged[:3]), len(exchanged) - 3
                rank_zero_info(
                    f"exchanged while it trains, and pruned as before: {names}"
                    + (f" and {more} more" if more > 0 else "")
                )
            self._mask_averages(trainer)
            self._masked_at = trainer.global_step

    def _mask_averages(self, trainer: Trainer) -> None:
        """Let averages of weights have the same zeros, whichever callback comes first."""
        assert self._pruner is not None
        for average in averages(trainer):
            self._pruner.masks.apply_to(average)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the metric to judge by, and remember how good the dense model was."""
        super().on_validation_end(trainer, pl_module)
        found = self._found_monitor
        if trainer.sanity_checking or self._has_pruned or found is None or self._is_partial:
            return
        if self.baseline is not None:
            return  # and a fit that goes on without it has it as the start
        value = trainer.callback_metrics.get(found.name)
        if value is None or not bool(value.isfinite()):
            return
        known = [float(value)] + ([] if self._best is None else [self._best])
        self._best = max(known) if found.higher_is_better else min(known)

    @property
    def _is_partial(self) -> bool:
        """Whether models are judged by less than the whole validation data."""
        judge = self.conf.evaluation.accuracy if self.conf.evaluation else None
        return judge is not None and judge.iteration > 0

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell if the training ended before the target."""
        assert self._pruner is not None
        if self._pruner.reached:
            return
        last = last_epoch(self._pruners)
        share = sparsity_of_all(self._pruner.layers())
        rank_zero_warn(
            f"the training ended in epoch {max(0, trainer.current_epoch - 1)} with"  # counted on
            f" {share:.1%} of the weights"
            f" to prune at zero; the target is reached in epoch {last}. Look at what ends the"
            " training: `EarlyStopping`, `max_steps`, `max_time`"
        )

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge the pruned model, compare it, write it down."""
        with self._ending_well(trainer, pl_module):
            self._judge(trainer, pl_module)

    @override
    def _what_is_left(self, trainer: Trainer, module: LightningModule) -> str:
        if self._result is not None:
            return judged_left(self._result)
        left = self._trained_left(trainer, module)
        return f"the pruned model was not judged yet; {left}"

    @contextmanager
    def _kept_first(self, trainer: Trainer, module: LightningModule) -> Iterator[None]:
        """Save what a signal leaves while the other processes still wait for this one.

        When they find it gone they fail, and a launcher then kills all that are left.
        """
        try:
            yield
        except (KeyboardInterrupt, Stopped):
            with uninterrupted():
                self._what_is_left(trainer, module)
            raise

    def _judge(self, trainer: Trainer, pl_module: LightningModule) -> None:
        end_live_bar(trainer)
        for one in callbacks_of(trainer):
            if isinstance(one, JudgedCallback):
                one.give_module_back()
        pruner = self._pruner
        assert pruner is not None
        pruner.apply()  # an average may have been handed over when the training ended
        pruner.close()  # hooks would be copied into the model of the result
        monitor = self._found_monitor
        weights = chosen_weights(trainer, pl_module, "best", monitor, pruner.masks, "judging")
        session, folder = self._opened(trainer, pl_module), workspace_in(trainer, self.conf).folder
        with session.at_work(self.conf), self._kept_first(trainer, pl_module):
            result = finish_pruning(
                session.model(weights),
                pruner,
                self.conf,
                session.judge(self.conf, self._monitor),
                self._feed(session, weights),
                session.ranks.agreed(Dense(self.baseline, self._start, self._best)),
                folder,
                session.ranks,
                rank_zero_info,
                self._channels,
                lambda result: self._leave(result, folder),
            )
        rank_zero_info(f"\n{result.table()}")

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let go of the model; another fit of the same one goes on with its masks."""
        if stage == "fit":
            self._let_go(pl_module)
        super().teardown(trainer, pl_module, stage)

    @override
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Take hooks out of the model, and let others into the workspace."""
        self._let_go(pl_module)
        super().on_exception(trainer, pl_module, exception)

    def _let_go(self, module: LightningModule) -> None:
        pruner, self._pruner = self._pruner, None
        if pruner is None:
            return
        pruner.close()
        if self._goes_on:
            self._before = weakref.ref(module), self._state(pruner)

    def __getstate__(self) -> dict[str, Any]:
        """Let a copy begin without the model of the last fit, which it knows nothing of."""
        return {**vars(self), "_before": None}


def pruning_in(trainer: Trainer) -> PruningCallback | None:
    """Return the callback of a trainer that prunes."""
    found = (one for one in callbacks_of(trainer) if isinstance(one, PruningCallback))
    return next(found, None)


def check_order(trainer: Trainer, quantizes: Callback) -> None:
    """Raise a ``ConfError`` if ``quantizes`` comes before what prunes."""
    for one in callbacks_of(trainer):
        if isinstance(one, PruningCallback):
            return
        if one is quantizes and pruning_in(trainer) is not None:
            raise ConfError(
                f"`{type(quantizes).__name__}` comes before `PruningCallback`, and would quantize a"
                " model that is not pruned to its end: put `PruningCallback` first in `callbacks`,"
                " or take both from `callbacks_from_conf`"
            )


def _nothing(_: Sequence[Tensor]) -> None:
    """Agree with nobody."""


def _from_the_first(tensors: Sequence[Tensor]) -> None:
    """Give all processes the masks of the first."""
    for tensor in tensors:
        dist.broadcast(tensor, src=0)
