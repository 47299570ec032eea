"""Quantization-aware training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from typing_extensions import override

from lpot_lightning.callbacks.followed_step import FollowedStep
from lpot_lightning.callbacks.freezing import FreezePlan, Moment, argument
from lpot_lightning.callbacks.judged import checked_baseline
from lpot_lightning.callbacks.length import Length
from lpot_lightning.callbacks.qat_fit import QATFit, has_ranges
from lpot_lightning.callbacks.qat_weights import fitting, goes_on_with, ranges_of
from lpot_lightning.callbacks.tuned import TunedCallback
from lpot_lightning.conf.ownership import check_for_callback
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import ConfError
from lpot_lightning.module.copying import compiled_around
from lpot_lightning.module.fingerprint import content_hash
from lpot_lightning.quantization.backend import BACKENDS, Training
from lpot_lightning.quantization.training.training import give_back_copies
from lpot_lightning.runs.frozen import ExactModules
from lpot_lightning.runs.model_watch import ModelWatch, told
from lpot_lightning.runs.options import Options
from lpot_lightning.runs.trained import Trained
from lpot_lightning.runs.training import FEW, check_trainable, first_training, next_training
from lpot_lightning.trainer.checkpoint import KEY, QAT, qat_state, sealed_qat
from lpot_lightning.trainer.ending import NOT_BEGUN, ending_well
from lpot_lightning.trainer.keepers import Choice, renews_statistics
from lpot_lightning.trainer.session import SessionWork
from lpot_lightning.trainer.validation_feed import ValidationFeed
from lpot_lightning.trainer.weights import Weights


class QATCallback(TunedCallback):
    """Train with the rounding of int8, then convert the best weights and judge them.

    When a fit begins, the layers of the model that can be int8 are found as post-training
    quantization finds them. While it trains each of them rounds its input and its weight as int8
    will, and computes as it did; no layer, parameter or key of the ``state_dict`` is exchanged, so
    optimizers, checkpoints and other callbacks see what they always saw. When the fit is over the
    weights of the best checkpoint become a second, int8 model, and your validation loop judges it:
    as it was trained, and by what ``QuantizationCallback`` makes of the trained weights; the better
    one is taken. If both miss the criterion, repairs are tried, and ops fall back to fp32 in the
    order of ``tuning.strategy``, as for ``QuantizationCallback``.

    Ranges of activations are learned from all training batches, and from nothing else, whatever
    mode a module is in. From half of the training on the statistics of BatchNorm stay as they are,
    and from three quarters on the ranges: of its epochs, or of its steps where ``max_steps`` ends
    it, or where it is one epoch.

    Args:
        conf: LPOT's user YAML with ``quantization.approach: quant_aware_training``: a path, a
            mapping or an OmegaConf object.
        monitor: as for ``QuantizationCallback``; so are ``modules`` and ``ckpt``.
        modules: names or globs of submodules or ops to train for int8; default: all that can be.
        ckpt: whose weights: the ``"best"`` or ``"last"`` checkpoint's, or the ``"current"`` ones.
        baseline: the accuracy that int8 is compared with, in the unit of the metric. If ``None``:
            the better of the weights that the fit begins with, measured by one validation pass
            before the first batch, and of the trained ones without rounding.
        freeze_batch_norm: the epoch, counted from 0, from which on BatchNorm keeps its statistics.
        freeze_observers: the epoch from which on activations keep their ranges.
        freeze_batch_norm_step: in place of the epoch, the step of the optimizer, as ``max_steps``
            counts them; so is ``freeze_observers_step``.
        freeze_observers_step: see above.

    Raises:
        ConfError: when created, if the YAML or an argument asks for what cannot be done; when a fit
            begins, if it is too short for what is to be frozen.
        LpotError: when a fit begins, if this Trainer cannot be used, nothing of the model can be
            int8 or be trained, or the workspace not written or in use by another run.
        SystemExit: with 130 for Ctrl-C and 143 for SIGTERM while it quantizes; what is finished
            until then is on disk.

    Example::

        qat = QATCallback("qat.yaml", monitor="val_acc")
        Trainer(max_epochs=8, callbacks=[qat]).fit(model, datamodule=data)
        print(qat.result.table())
    """

    def __init__(
        self,
        conf: str | Path | dict[str, Any] | Conf,
        *,
        monitor: str | None = None,
        modules: list[str] | None = None,
        ckpt: Choice = "best",
        baseline: float | None = None,
        freeze_batch_norm: int | None = None,
        freeze_observers: int | None = None,
        freeze_batch_norm_step: int | None = None,
        freeze_observers_step: int | None = None,
    ) -> None:
        read = read_conf(conf)
        check_for_callback(read, "QATCallback")
        super().__init__(read, monitor, modules, ckpt)
        self.baseline = checked_baseline(baseline)
        self.freeze_batch_norm, self.freeze_observers = freeze_batch_norm, freeze_observers
        self.freeze_batch_norm_step = freeze_batch_norm_step
        self.freeze_observers_step = freeze_observers_step
        self._freezes = {
            name: _checked_moment(name, getattr(self, name), getattr(self, argument(name, "step")))
            for name in ("freeze_batch_norm", "freeze_observers")
        }
        self._fit: QATFit | None = None
        self._watch: ModelWatch | None = None
        self._step = FollowedStep()
        self._exchanged: set[str] = set()

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work, before any training."""
        if stage != "fit":
            return
        self._let_go()
        self._exchanged = set()
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            FreezePlan.of(Length.unseen(trainer), Moment(0, 0), self._freezes)
        self._fit = QATFit(self._freezes)
        super().setup(trainer, pl_module, stage)

    @override
    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take up the ranges of a fit that is gone on with."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._now.saved = qat_state(checkpoint)

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find what can be int8, measure the baseline, and let the model round."""
        with ending_well(lambda: NOT_BEGUN, trainer):
            super().on_fit_start(trainer, pl_module)
            self._start(trainer, pl_module)

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freeze what is to be frozen from this epoch on."""
        super().on_train_epoch_start(trainer, pl_module)
        now = self._plan_from(trainer, pl_module)
        for what in self._now.newly_frozen(pl_module, now):
            rank_zero_info(f"epoch {now.epoch}: from here on the {what} are frozen")

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Let this batch teach ranges and statistics what they are still to learn."""
        self._take_changes_in(trainer, pl_module)
        if flow := self._watching.flow(pl_module, first=batch_idx == 0):
            self._step.begin(pl_module, flow)
        now = self._plan_from(trainer, pl_module, batch_idx)
        for what in self._now.newly_frozen(pl_module, now):
            rank_zero_info(f"step {now.step}: from here on the {what} are frozen")
        self._now.begin_batch(pl_module, now, renews=renews_statistics(trainer))

    @override
    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note what trains, where it stayed exact."""
        self._watching.note_backward(pl_module)

    @override
    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Let no other data teach the ranges, and make them the same in all processes."""
        self._step.end()
        self._now.end_batch(trainer.world_size)
        epoch, parts = trainer.current_epoch, trainer.accumulate_grad_batches
        self._now.notes.note_loss(epoch, outputs, parts)
        super().on_train_batch_end(trainer, pl_module, outputs, *args, **kwargs)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the metric to judge by, and note what it is in this epoch."""
        super().on_validation_end(trainer, pl_module)
        if self._found_monitor is not None and trainer.state.fn == TrainerFn.FITTING:
            value = trainer.callback_metrics.get(self._found_monitor.name)
            if value is not None and not trainer.sanity_checking:
                self._now.notes.note_accuracy(trainer.current_epoch, float(value))

    @override
    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the ranges beside the fp32 weights, under a key of our own."""
        state = None if self._fit is None else self._fit.state(self._asked)
        if state is not None:  # the module is given back before the end of a pruning is saved
            checkpoint[KEY] = {QAT: sealed_qat(state)}

    @override
    def give_module_back(self) -> None:
        """Remember the ranges, and take the rounding out of the model."""
        self._now.give_back()

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the model back, convert the best weights, judge, tune, save."""
        with self._ending_well(trainer, pl_module):
            self.give_module_back()
            give_back_copies(pl_module)
            weights = self._weights(trainer, pl_module)
            weights = fitting(weights, pl_module, self._exchanged)
            trained = self._trained(weights)
            self._quantize(trainer, pl_module, self._request(trainer, pl_module, weights), trained)

    @override
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Give the model back."""
        self._let_go()
        super().on_exception(trainer, pl_module, exception)

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the model back, however the fit ended."""
        if stage == "fit":
            self._let_go()
        super().teardown(trainer, pl_module, stage)

    @property
    def _now(self) -> QATFit:
        """What belongs to this fit; there is one from ``setup`` on."""
        assert self._fit is not None
        return self._fit

    @property
    def _watching(self) -> ModelWatch:
        """What looks at the model; there is one while it trains."""
        assert self._watch is not None
        return self._watch

    def _let_go(self) -> None:
        self._step.end()
        if self._fit is not None:
            self._fit.let_go()

    @property
    def _asked(self) -> str:
        asked = self.conf.to_dict()
        return content_hash([asked["quantization"], asked["model"], self.modules])

    def _start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        fit = self._now
        goes_on = fit.saved is not None and goes_on_with(fit.saved, self._asked)
        with self._opened(trainer, pl_module).at_work(self.conf) as work:
            model = work.model()
            if fit.saved is not None:
                fit.take_up()
            elif self.baseline is None:
                fit.start = work.judge(self.monitor).evaluate(model, "baseline").accuracy
            if fit.saved is not None and goes_on:
                backend = BACKENDS[fit.saved["training"]["backend"]]()
                training = backend.training_of(model, fit.saved["training"])
            else:
                feed, options = self._feed(work), self._options(work)
                training = first_training(model, self.conf, feed, options, rank_zero_info)
        self._begin(pl_module, training, goes_on=goes_on)

    def _feed(self, work: SessionWork) -> ValidationFeed:
        return work.feed(calib="val", samples=FEW, tells=False)

    def _options(self, work: SessionWork) -> Options:
        return Options(modules=self.modules, ranks=work.ranks)

    def _begin(self, module: LightningModule, training: Training, *, goes_on: bool = False) -> None:
        check_trainable(module, training)
        self._now.begin(module, training, goes_on=goes_on)
        self._watch = ModelWatch(module, ExactModules(training.left_out))
        for name in compiled_around(module, training.layers):
            rank_zero_warn(f"`{name}` is compiled, and trains without `torch.compile`: it rounds")
        rank_zero_info(f"training {len(training.int8_ops)} ops with the rounding of int8")

    def _plan_from(self, trainer: Trainer, module: LightningModule, batch: int = 0) -> Moment:
        """Return the epoch and the step of now; the first time, plan what is frozen when."""
        fit = self._now
        if not fit.is_planned and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            fit.plan(Length.of(trainer, module, batch))
        return Moment(trainer.current_epoch, trainer.global_step)

    def _take_changes_in(self, trainer: Trainer, module: LightningModule) -> None:
        """Let a layer round that was exchanged, or that was frozen and feeds what trains now."""
        gather = lambda seen: self._opened(trainer, module).ranks.gather(seen)  # noqa: E731
        changes = self._watching.changes(module, gather)
        if changes is None:
            return
        fit, before = self._now, self._now.training
        before.detach()
        give_back_copies(module)
        if not changes.others:
            before.attach(module)
            self._watch = ModelWatch(module, changes.exact)
            return
        with self._opened(trainer, module).at_work(self.conf) as work:
            feed, options = self._feed(work), self._options(work)
            training, exact = next_training(
                work.model(), self.conf, feed, options, changes, rank_zero_info
            )
        fit.go_on(module, training, changes.kept(before), trainer.current_epoch)
        self._watch = ModelWatch(module, exact)
        self._exchanged |= changes.exchanged
        for line in told(changes, training):
            rank_zero_info(line)

    def _trained(self, weights: Weights) -> Trained | None:
        """Return what the training came to, ``None`` if no batch passed."""
        fit = self._now
        assert fit.ranges is not None
        state = ranges_of(weights, fit.ranges, self._asked)
        if fit.has_trained or has_ranges(state):
            return Trained(state, self.baseline, fit.start, fit.notes.log)
        rank_zero_warn(
            "no batch was trained with the rounding of int8: the ranges of activations are"
            " calibrated, as `QuantizationCallback` does"
        )
        return None


def _checked_moment(name: str, epoch: int | None, step: int | None) -> Moment:
    _check_count(name, epoch, "an epoch")
    _check_count(argument(name, "step"), step, "a step")
    if epoch is not None and step is not None:
        raise ConfError(f"`{name}` is an epoch and `{name}_step` a step: leave one of them out")
    return Moment(epoch, step)


def _check_count(name: str, value: object, what: str) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ConfError(f"`{name}` is `{value!r}`; allowed: {what}, counted from 0, or nothing")
