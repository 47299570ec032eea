"""Pruning while a Trainer trains."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from lpot_lightning.callbacks.forget_best import forget_best
from lpot_lightning.callbacks.judged import JudgedCallback, callbacks_of, checked_baseline
from lpot_lightning.callbacks.later_judge import judged_later
from lpot_lightning.callbacks.length import Length
from lpot_lightning.callbacks.patience import HeldPatience
from lpot_lightning.callbacks.pruning_checks import (
    check_first,
    check_length,
    check_limits,
    check_pruning_trainer,
    ended_early,
)
from lpot_lightning.callbacks.pruning_fit import PruningFit
from lpot_lightning.conf.ownership import check_for_callback
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.conf.schema import Conf, PrunerConf, Unit
from lpot_lightning.errors import ArtifactError, ConfError, quoted
from lpot_lightning.machine.signals import Stopped, uninterrupted
from lpot_lightning.module.copying import check_copyable
from lpot_lightning.pruning.channels.plan import ChannelPlan
from lpot_lightning.pruning.masks import Masks
from lpot_lightning.pruning.model_pruner import ModelPruner, prunes_channels, schedule_of
from lpot_lightning.report.facts import RunState
from lpot_lightning.runs.channels import Channels, find_channels
from lpot_lightning.runs.prune import PruningEnd, finish_pruning
from lpot_lightning.runs.pruned_files import judged_left
from lpot_lightning.runs.pruning_result import PRUNING_RESULT, PruningResult, read_pruning_result
from lpot_lightning.runs.reporting.pruning_reporter import PruningReporter
from lpot_lightning.runs.reporting.report_file import state_after
from lpot_lightning.trainer.ending import NOT_BEGUN, ending_well
from lpot_lightning.trainer.keepers import averages
from lpot_lightning.trainer.shown.loggers import log_pruning, log_scalars
from lpot_lightning.trainer.shown.printing import print_result
from lpot_lightning.trainer.weights import Weights, chosen_weights
from lpot_lightning.tuning.score import Criterion

FEW = 8
"""Validation samples by which models are followed, and timed."""
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
    best anew, so that the best model is a pruned one. Until then, ``EarlyStopping`` waits; a metric
    that is not finite, and its thresholds, end a fit as ever.

    Args:
        conf: LPOT's user YAML with a ``pruning`` section: a path, a mapping or an OmegaConf object.
        monitor: the logged metric that is the accuracy, as for ``QuantizationCallback``.
        modules: names or globs of submodules to which all pruners are restricted.
        baseline: the accuracy of the dense model, in the unit of the metric. If ``None``: the
            better of the weights that the fit begins with, measured by one validation pass before
            the first batch, and of the best validation before pruning began.
        wait_for_target: whether ``EarlyStopping`` waits until the targets are reached.

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
        conf: str | Path | dict[str, Any] | Conf,
        *,
        monitor: str | None = None,
        modules: list[str] | None = None,
        baseline: float | None = None,
        wait_for_target: bool = True,
    ) -> None:
        read = read_conf(conf)
        check_for_callback(read, "PruningCallback")
        super().__init__(read, monitor, modules)
        self.baseline = checked_baseline(baseline)
        if self.baseline is not None:
            asked = read.tuning.accuracy_criterion
            Criterion.of(asked, True).target(self.baseline)  # no share of nothing
        if not isinstance(wait_for_target, bool):
            raise ConfError(f"`wait_for_target` is `{wait_for_target!r}`; allowed: `True`, `False`")
        self.wait_for_target = wait_for_target
        self._patience = HeldPatience("the target sparsity")
        self._fit: PruningFit | None = None
        self._before: tuple[weakref.ref[LightningModule], Mapping[str, Any]] | None = None

    @property
    def masks(self) -> Masks | None:
        """What is pruned of the model that is being fitted; ``None`` outside of a fit.

        Example::

            class Average(Callback):
                def on_train_batch_end(self, *_):
                    pruning.masks.apply_to(ema.module)  # an average of your own

            trainer = Trainer(max_epochs=5, callbacks=[pruning, Average()])
            trainer.fit(model, datamodule=data)
        """
        fit = self._fit
        return None if fit is None or not fit.prunes else fit.pruner.masks

    def plan(self, module: LightningModule) -> ChannelPlan | None:
        """Return by what pruned channels are cut out of a copy of ``module``, if any are."""
        fit = self._fit
        return None if fit is None or not fit.prunes else fit.pruner.plan(module)

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
        check_limits(trainer, self._pruners)
        super().setup(trainer, pl_module, stage)
        if self._before is not None and self._before[0]() is not pl_module:
            self._before = None
        saved = None if self._before is None else self._before[1]
        self._fit = PruningFit(self.baseline, saved)

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the masks of a fit that is gone on with."""
        for name, kind in _FIELDS.items():
            if not isinstance(state_dict.get(name), kind):
                raise ArtifactError(f"`{name}` of the checkpoint's `PruningCallback` is damaged")
        if self._fit is not None:  # else it is validated or tested, and nothing is pruned
            self._fit.saved = state_dict

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find what is pruned, and measure the dense model."""
        with ending_well(lambda: NOT_BEGUN, trainer):
            self._start(trainer, pl_module)

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prune to what the schedules ask of this epoch."""
        fit, epoch = self._now, trainer.current_epoch
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            fit.pruner.begin()
            return  # its one epoch is too short for a schedule
        self._begin(trainer, pl_module)
        if not fit.goes_on:
            check_first("epoch", epoch, self._pruners)
        fit.goes_on = True
        reached = fit.pruner.reached
        if fit.pruner.begin_epoch(epoch):
            rank_zero_info(f"epoch {epoch}: {fit.sparsity:.1%} of the weights to prune are zero")
            log_scalars(trainer, {"sparsity": fit.sparsity}, trainer.global_step)
        self._take_up_pruned(trainer, f"epoch {epoch}", reached)
        self._hold_patience(trainer)
        self._report(pl_module)

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Prune to what the schedules ask of the next step of the optimizer."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        fit, step = self._now, trainer.global_step
        self._begin(trainer, pl_module, batch_idx)
        reached = fit.pruner.reached
        if not fit.pruner.begin_step(step):
            return
        fit.goes_on = True
        if fit.worth_telling():
            rank_zero_info(f"step {step}: {fit.sparsity:.1%} of the weights to prune are zero")
            self._report(pl_module)
        log_scalars(trainer, {"sparsity": fit.sparsity}, step)
        self._take_up_pruned(trainer, f"step {step}", reached)

    @override
    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Take in the gradients: all of the accumulated batches, of all processes, unscaled."""
        pruner = self._now.pruner
        if pruner.needs_gradients:
            pruner.observe({id(one) for group in optimizer.param_groups for one in group["params"]})

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        """Make what is pruned zero again, if an optimizer made a step."""
        fit = self._now
        if trainer.fast_dev_run and not fit.pruner.reached:  # type: ignore[attr-defined]
            fit.pruner.finish()
            fit.has_pruned = fit.pruner.has_pruned
        by_hand = not pl_module.automatic_optimization  # where not every step is counted
        if by_hand or trainer.global_step != fit.masked_at:
            if exchanged := fit.pruner.apply():
                names = quoted(exchanged, 3)
                rank_zero_info(f"exchanged while it trains, and pruned as before: {names}")
            self._mask_averages(trainer)
            fit.masked_at = trainer.global_step

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let early stopping wait, where it looks at validations."""
        self._hold_patience(trainer)

    @override
    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Mask what is validated: a schedule-free optimizer has put other weights in place."""
        if batch_idx == 0:
            self._mask_what_is_there()

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the metric to judge by, and remember how good the dense model was."""
        super().on_validation_end(trainer, pl_module)
        self._mask_what_is_there()  # a checkpoint may be saved now
        found, fit = self._found_monitor, self._fit
        if fit is None or found is None or trainer.sanity_checking or fit.has_pruned:
            return
        if self.baseline is not None or self._is_partial:
            return  # and a fit that goes on without a baseline has it as the start
        value = trainer.callback_metrics.get(found.name)
        if value is not None and bool(value.isfinite()):
            fit.remember(float(value), found.higher_is_better)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Mask what checkpoints save: after a validation other weights may have been put back."""
        self._mask_what_is_there()

    @override
    def state_dict(self) -> dict[str, Any]:
        """Return masks, the place in the schedules, and what is known of the dense model."""
        if self._fit is not None and self._fit.prunes:
            return self._fit.state()
        # also a checkpoint that is saved after the fit has the masks
        return {} if self._before is None else dict(self._before[1])

    @override
    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save of early stopping what it would have counted."""
        self._patience.put_into(checkpoint)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell if the training ended before the target."""
        fit = self._now
        self._patience.let_go()
        if not fit.pruner.reached:
            pruner = fit.pruner
            told = ended_early(trainer, pruner.unreached, fit.sparsity, pruner.awaited)
            rank_zero_warn(told)

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge the pruned model, compare it, write it down."""
        with self._ending_well(trainer, pl_module):
            for one in callbacks_of(trainer):
                if isinstance(one, JudgedCallback):
                    one.give_module_back()
            pruner = self._now.pruner
            pruner.apply()  # an average may have been handed over when the training ended
            pruner.close()  # hooks would be copied into the model of the result
            masks, monitor = pruner.masks, self._found_monitor
            weights = chosen_weights(trainer, pl_module, "best", monitor, masks, "judging")
            self._judge(trainer, pl_module, weights)

    @override
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Take hooks out of the model, and let others into the workspace."""
        by_signal = trainer.received_sigterm  # which Lightning's own handler took
        after = (RunState.STOPPED, ()) if by_signal else state_after(exception)
        self._report(pl_module, *after)
        self._let_go(pl_module)
        super().on_exception(trainer, pl_module, exception)

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let go of the model; another fit of the same one goes on with its masks."""
        if stage == "fit":
            self._let_go(pl_module)
        super().teardown(trainer, pl_module, stage)

    @property
    def _now(self) -> PruningFit:
        """What belongs to this fit; there is one from ``setup`` on."""
        assert self._fit is not None
        return self._fit

    @property
    def _pruners(self) -> tuple[PrunerConf, ...]:
        assert self.conf.pruning is not None
        return self.conf.pruning.approach.weight_compression.resolved()

    @override
    def _read_result(self, workspace: Path) -> PruningResult:
        return read_pruning_result(workspace / PRUNING_RESULT)

    def _start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        check_copyable(pl_module)
        agree = _from_the_first if trainer.world_size > 1 else _nothing
        channels, fit = self._find_channels(trainer, pl_module), self._now
        found = None if channels is None else channels.found
        pruner = ModelPruner(
            pl_module,
            self._pruners,
            self.modules,
            found,
            agree,
            say=rank_zero_info,
            frozen=fit.frozen(pl_module, trainer.optimizers),
        )
        fit.begin(pruner, channels)
        folder = self._workspace.folder if trainer.is_global_zero else None
        fit.reporter = PruningReporter(self.conf, folder)
        if fit.goes_on:
            rank_zero_info(
                f"going on with what is pruned: {fit.sparsity:.1%} of the weights to prune"
            )
        elif self.baseline is None:
            with self._opened(trainer, pl_module).at_work(self.conf) as work:
                judge = work.judge(self.monitor)
                fit.start = judge.evaluate(work.model(), "the dense model").accuracy
            self._check_start(trainer)

    def _check_start(self, trainer: Trainer) -> None:
        """Refuse a criterion that is a share of nothing, where no better baseline can come."""
        now: dict[Unit, int] = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        schedules = [schedule_of(one) for one in self._pruners]
        at_once = any(one.sparsity(now[one.unit]) > 0 for one in schedules)
        if at_once and self._now.start == 0:
            Criterion.of(self.conf.tuning.accuracy_criterion, True).target(0.0)

    def _begin(self, trainer: Trainer, module: LightningModule, batch: int = 0) -> None:
        """Refuse schedules that do not fit into what is left of the training; only once."""
        fit = self._now
        if fit.has_begun:
            return
        fit.has_begun = True
        if not fit.goes_on:
            check_first("step", trainer.global_step, self._pruners)
        check_length(Length.of(trainer, module, batch), fit.pruner.unreached)
        self._hold_patience(trainer)  # also where a fit goes on within an epoch

    def _hold_patience(self, trainer: Trainer) -> None:
        """Let early stopping wait while the model is on its way to the target."""
        fit = self._fit
        if fit is None or not fit.prunes or trainer.sanity_checking or not self.wait_for_target:
            return
        if not fit.pruner.reached and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._patience.hold(trainer)

    def _take_up_pruned(self, trainer: Trainer, when: str, reached: bool) -> None:
        """Let averages and other callbacks follow; ``reached`` is whether all was pruned before."""
        fit = self._now
        fit.has_pruned = fit.has_pruned or fit.pruner.has_pruned
        self._mask_averages(trainer)
        if fit.pruner.reached and not reached:
            self._patience.let_go()
            forget_best(trainer, f"{when}: the target sparsity is reached")

    def _find_channels(self, trainer: Trainer, module: LightningModule) -> Channels | None:
        """Return the groups of the model's channels, if a pruner needs them."""
        if not prunes_channels(self._pruners):
            return None
        with self._opened(trainer, module).at_work(self.conf) as work:
            feed = work.feed(calib="val", samples=FEW)
            return find_channels(work.model(), feed, work.ranks, rank_zero_info)

    def _mask_what_is_there(self) -> None:
        """Make what is pruned zero in the module, whoever has put its weights in place."""
        if self.masks is not None:
            with torch.inference_mode(False):  # masks that move to a device stay ordinary tensors
                self.masks.apply()

    def _mask_averages(self, trainer: Trainer) -> None:
        """Let averages of weights have the same zeros, whichever callback comes first."""
        for average in averages(trainer):
            self._now.pruner.masks.apply_to(average)

    @property
    def _is_partial(self) -> bool:
        """Whether models are judged by less than the whole validation data."""
        judge = self.conf.evaluation.accuracy if self.conf.evaluation else None
        return judge is not None and judge.iteration > 0

    def _judge(self, trainer: Trainer, module: LightningModule, weights: Weights) -> None:
        """Judge a copy with these weights."""
        session, fit, folder = self._opened(trainer, module), self._now, self._workspace.folder
        with (
            session.at_work(self.conf, weights) as work,
            self._kept_first(trainer, module),
        ):
            end = PruningEnd(
                conf=self.conf,
                judge=work.judge(self._monitor),
                feed=work.feed(calib="val", samples=FEW),
                dense=work.ranks.agreed(fit.dense),
                workspace=folder,
                ranks=work.ranks,
                say=rank_zero_info,
                channels=fit.channels,
                done=lambda result: self._leave(
                    judged_later(result, trainer, session, self.conf), folder
                ),
            )
            result = finish_pruning(work.model(), fit.pruner, end)
        print_result(trainer, result.table())
        log_pruning(trainer, result)

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

    @override
    def _what_is_left(self, trainer: Trainer, module: LightningModule) -> str:
        if self._result is not None:
            return judged_left(self._result)
        left = self._trained_left(trainer, module)
        return f"the pruned model was not judged yet; {left}"

    def _report(
        self,
        module: LightningModule,
        state: RunState = RunState.GOING_ON,
        notes: tuple[str, ...] = (),
    ) -> None:
        """Keep the page of the workspace up to date, until that of the result is written."""
        fit = self._fit
        if fit is not None and fit.prunes and fit.has_begun and self._result is None:
            assert fit.reporter is not None
            fit.reporter.tell(module, fit.pruner, self._found_monitor, state, *notes)

    def _let_go(self, module: LightningModule) -> None:
        self._patience.let_go()
        left = None if self._fit is None else self._fit.let_go()
        if left is not None:
            self._before = weakref.ref(module), left

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
