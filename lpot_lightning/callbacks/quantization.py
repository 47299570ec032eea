"""Post-training quantization when a fit is over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from typing_extensions import override

from lpot_lightning.api.result import TuningResult, read_result
from lpot_lightning.api.workspace import RESULT
from lpot_lightning.callbacks import checkpoint
from lpot_lightning.callbacks.averaging import average_comes_first, without_average
from lpot_lightning.callbacks.calibration import Source
from lpot_lightning.callbacks.checkpoint import CHOICES, Choice
from lpot_lightning.callbacks.interrupt import ending_well
from lpot_lightning.callbacks.monitor import find_monitor
from lpot_lightning.callbacks.names import check_names
from lpot_lightning.callbacks.postbox import Postbox
from lpot_lightning.callbacks.precision import judging_precision
from lpot_lightning.callbacks.progress import end_live_bar
from lpot_lightning.callbacks.quiet import directions_in
from lpot_lightning.callbacks.run import in_one_process, run_quantization, workspace_for
from lpot_lightning.callbacks.validation import NO_VALIDATION_DATA, check_step, check_trainer
from lpot_lightning.conf.ownership import check_for_callback
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import ConfError, EvaluationError, did_you_mean
from lpot_lightning.lock import WorkspaceLock
from lpot_lightning.quantization.replace import check_copyable
from lpot_lightning.tuning.strategies.table import find_strategy


class QuantizationCallback(Callback):
    """Quantize the model when the fit is over, tuned to an accuracy goal.

    At ``on_fit_end`` the weights of the best checkpoint are copied into a second model, calibrated
    and converted to int8; your own validation loop judges each trial, and the search goes on until
    the criterion of the YAML is met. Your module and your trainer are as they were afterwards.

    Args:
        conf: LPOT's user YAML: a path, a mapping or an OmegaConf object. A relative workspace in it
            lies below the trainer's ``default_root_dir``, where that is a folder of this machine.
        monitor: the logged metric that is the accuracy. If ``None``: what a ``ModelCheckpoint`` or
            ``EarlyStopping`` monitors, else the only metric that the validation loop logs.
        modules: names or globs of submodules or ops to quantize; default: everything quantizable.
        calib: ``"train"`` (unshuffled) or ``"val"`` data to calibrate on, unless the datamodule or
            the module has a ``calib_dataloader()``.
        ckpt: whose weights: the ``"best"`` or ``"last"`` checkpoint's, or the ``"current"`` ones.
            Without a ``ModelCheckpoint`` all three are the current ones; with one that has no
            ``monitor``, weights that ``StochasticWeightAveraging`` averaged are the best.

    Raises:
        ConfError: when created, if the YAML or an argument asks for what cannot be done, or for a
            strategy whose packages are not installed.
        LpotError: when a fit begins, if this Trainer cannot be used, or the workspace not written
            or in use by another run.
        SystemExit: with 130 for Ctrl-C and 143 for SIGTERM while it quantizes; what is finished
            until then is on disk.

    Example::

        quantization = QuantizationCallback("ptq.yaml", monitor="val_acc")
        Trainer(max_epochs=5, callbacks=[quantization]).fit(model, datamodule=data)
        print(quantization.result.table())
    """

    def __init__(
        self,
        conf: str | Path | dict[str, Any],
        *,
        monitor: str | None = None,
        modules: list[str] | None = None,
        calib: Source = "train",
        ckpt: Choice = "best",
    ) -> None:
        self.conf: Conf = read_conf(conf)
        check_for_callback(self.conf, "QuantizationCallback")
        find_strategy(self.conf.tuning.strategy.name)
        _check_choice("calib", calib, ("train", "val"))
        _check_choice("ckpt", ckpt, CHOICES)
        if monitor is not None and not isinstance(monitor, str):
            raise ConfError(f"`monitor` is `{monitor!r}`; allowed: the name of a logged metric")
        if isinstance(modules, str) or any(not isinstance(name, str) for name in modules or []):
            raise ConfError(f"`modules` is `{modules!r}`; allowed: a list of names or globs")
        self.monitor = monitor
        self.modules = tuple(modules or ())
        self.calib = calib
        self.ckpt = ckpt
        self._result: TuningResult | None = None
        self._postbox = Postbox()
        self._readable: str | None = None
        self._monitor_sought = False
        self._lock: WorkspaceLock | None = None

    @property
    def result(self) -> TuningResult | None:
        """What the run came to; ``None`` before the fit is over.

        Where the fit runs in processes of its own (``ddp_spawn``, ``ddp_notebook``) it is read back
        from the workspace, without the model; a ``fast_dev_run`` of that kind leaves none.
        """
        if self._result is None and (workspace := self._postbox.take()):
            return read_result(Path(workspace) / RESULT)
        return self._result

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work, before any training."""
        if stage != "fit":
            return
        self._result = None
        self._postbox.put("")
        self._readable = None
        self._monitor_sought = False
        check_trainer(trainer)
        check_step(pl_module)
        if not trainer.enable_validation:
            raise EvaluationError(NO_VALIDATION_DATA)
        self._check_last(trainer)
        same = [one for one in _callbacks(trainer) if isinstance(one, QuantizationCallback)]
        if len(same) > 1:
            raise ConfError(
                f"the Trainer has {len(same)} QuantizationCallbacks: the second would quantize the"
                " same model again; keep one"
            )
        self._release()
        if (workspace := workspace_for(trainer, self.conf)) is not None:
            self._lock = WorkspaceLock(workspace)
            in_one_process(trainer, self._lock.acquire)

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse names that the model has not, and a model that cannot be copied."""
        check_copyable(pl_module)
        check_names(pl_module, self.modules, [key for key, _ in self.conf.quantization.op_wise])

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make sure that the first checkpoint can be read again."""
        self._check_readable(trainer)

    @override
    def on_train_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        """Make sure that the first checkpoint can be read again, also in the middle of an epoch."""
        self._check_readable(trainer)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the metric to tune by at the first validation, not after the last."""
        if self._monitor_sought or trainer.state.fn != TrainerFn.FITTING:
            return
        if not trainer.is_global_zero:  # which may be alone to log it
            return
        directions = directions_in(trainer.fit_loop.epoch_loop.val_loop)
        try:
            find_monitor(
                self.monitor,
                self.conf.tuning.accuracy_criterion.higher_is_better,
                _callbacks(trainer),
                directions,
                directions,
            )
        except EvaluationError as error:
            if trainer.sanity_checking:  # many a module logs nothing there
                return
            if self.monitor and did_you_mean(self.monitor, directions):
                raise
            rank_zero_warn(f"{error} It is looked for again when the fit is over.")
        self._monitor_sought = True

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Quantize, judge, tune, save."""
        end_live_bar(trainer)
        workspace = workspace_for(trainer, self.conf)
        with ending_well(self.conf, workspace, "`fit(ckpt_path='last')`"):
            self._result = run_quantization(
                trainer,
                pl_module,
                self.conf,
                monitor=self.monitor,
                modules=self.modules,
                calib=self.calib,
                weights=self._weights(trainer, pl_module),
                workspace=workspace,
                watchers=_callbacks(trainer),
                precision=judging_precision(trainer, pl_module, rank_zero_info),
            )
        if workspace is not None:
            self._postbox.put(str(workspace.resolve()))
        self._release()

    @override
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Let others into the workspace."""
        self._release()

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let others into the workspace, also where the fit was ended from outside."""
        if stage == "fit":
            self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
        self._lock = None

    def _check_last(self, trainer: Trainer) -> None:
        kept = trainer.checkpoint_callback
        if self.ckpt == "last" and isinstance(kept, ModelCheckpoint) and not kept.save_last:
            raise ConfError(
                "`ckpt` is `last`, and the ModelCheckpoint keeps no last one: give it"
                " `save_last=True`, or quantize the weights in memory with `ckpt='current'`"
            )

    def _check_readable(self, trainer: Trainer) -> None:
        if self._readable is None and (path := checkpoint.saved_weights(trainer, self.ckpt)):
            checkpoint.read_checkpoint(path)
            self._readable = path

    def _weights(self, trainer: Trainer, module: LightningModule) -> str:
        path = checkpoint.saved_weights(trainer, self.ckpt)
        if path and without_average(trainer, module, path):
            if average_comes_first(trainer, self.ckpt):
                rank_zero_info(
                    f"`{path}` is from before the weights were averaged: quantizing the current,"
                    " averaged ones"
                )
                return ""
            rank_zero_info(
                f"`{path}` is from before the weights were averaged; for the averaged ones:"
                " `ckpt='current'`"
            )
        if not path and self.ckpt != "current":
            kept = isinstance(trainer.checkpoint_callback, ModelCheckpoint)
            why = f"no {self.ckpt} checkpoint was saved" if kept else "there is no ModelCheckpoint"
            rank_zero_info(f"{why}: quantizing the current weights")
        elif path:
            rank_zero_info(f"quantizing the weights of `{path}`")
        return path


def _callbacks(trainer: Trainer) -> list[Callback]:
    return list(trainer.callbacks)  # type: ignore[attr-defined]


def _check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        known = ", ".join(f"`{one}`" for one in allowed)
        raise ConfError(
            f"`{name}` is `{value}`; allowed: {known}.{did_you_mean(str(value), allowed)}"
        )
