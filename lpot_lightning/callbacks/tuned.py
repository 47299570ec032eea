"""What the callbacks have in common that end a fit with a tuned int8 model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from typing_extensions import override

from lpot_lightning.api.result import TuningResult, read_result
from lpot_lightning.api.trained import Trained
from lpot_lightning.api.workspace import RESULT
from lpot_lightning.callbacks import checkpoint
from lpot_lightning.callbacks.averaging import average_comes_first, without_average
from lpot_lightning.callbacks.checkpoint import CHOICES, Choice
from lpot_lightning.callbacks.interrupt import ending_well
from lpot_lightning.callbacks.monitor import find_monitor
from lpot_lightning.callbacks.names import check_names
from lpot_lightning.callbacks.postbox import Postbox
from lpot_lightning.callbacks.precision import judging_precision
from lpot_lightning.callbacks.quiet import directions_in
from lpot_lightning.callbacks.run import in_one_process, run_quantization, workspace_for
from lpot_lightning.callbacks.task import Task
from lpot_lightning.callbacks.validation import NO_VALIDATION_DATA, check_step, check_trainer
from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import ConfError, EvaluationError, did_you_mean
from lpot_lightning.lock import WorkspaceLock
from lpot_lightning.quantization.replace import check_copyable
from lpot_lightning.tuning.strategies.table import find_strategy


class TunedCallback(Callback):
    """Ends a fit with an int8 model that is tuned to an accuracy goal.

    Args:
        conf: checked.
        monitor: the logged metric that is the accuracy, if the user named it.
        modules: names or globs of what is to be quantized, if the user named it.
        ckpt: whose weights.

    Raises:
        ConfError: if an argument is none of what is allowed, or for a strategy whose packages are
            not installed.
    """

    def __init__(
        self, conf: Conf, monitor: str | None, modules: list[str] | None, ckpt: Choice
    ) -> None:
        self.conf = conf
        find_strategy(conf.tuning.strategy.name)
        check_choice("ckpt", ckpt, CHOICES)
        if monitor is not None and not isinstance(monitor, str):
            raise ConfError(f"`monitor` is `{monitor!r}`; allowed: the name of a logged metric")
        if isinstance(modules, str) or any(not isinstance(name, str) for name in modules or []):
            raise ConfError(f"`modules` is `{modules!r}`; allowed: a list of names or globs")
        self.monitor = monitor
        self.modules = tuple(modules or ())
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
        same = [type(one).__name__ for one in _callbacks(trainer) if isinstance(one, TunedCallback)]
        if len(same) > 1:
            raise ConfError(
                f"the Trainer has {len(same)} callbacks that quantize ({', '.join(same)}): the"
                " second would quantize the same model again; keep one"
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

    def _task(self, trainer: Trainer, module: LightningModule, weights: str) -> Task:
        return Task(
            self.conf,
            self.monitor,
            self.modules,
            weights,
            workspace_for(trainer, self.conf),
            _callbacks(trainer),
            judging_precision(trainer, module, rank_zero_info),
        )

    def _quantize(
        self,
        trainer: Trainer,
        module: LightningModule,
        task: Task,
        trained: Trained | None = None,
    ) -> None:
        """Quantize, judge, tune, save."""
        with ending_well(self.conf, task.workspace, "`fit(ckpt_path='last')`"):
            self._result = run_quantization(trainer, module, task, trained)
        if task.workspace is not None:
            self._postbox.put(str(task.workspace.resolve()))
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


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise a ``ConfError`` if the argument ``name`` is none of what is ``allowed``."""
    if value not in allowed:
        known = ", ".join(f"`{one}`" for one in allowed)
        raise ConfError(
            f"`{name}` is `{value}`; allowed: {known}.{did_you_mean(str(value), allowed)}"
        )
