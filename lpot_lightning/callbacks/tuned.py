"""What the callbacks have in common that end a fit with a tuned int8 model."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from typing_extensions import override

from lpot_lightning.artifacts.earlier import RESULT
from lpot_lightning.callbacks.judged import JudgedCallback, callbacks_of, check_choice
from lpot_lightning.callbacks.later_judge import judged_later
from lpot_lightning.callbacks.pruning import check_order, pruning_in
from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import ConfError, QuantizationError, did_you_mean, quoted
from lpot_lightning.module.copying import check_copyable, is_compiled
from lpot_lightning.module.gradients import GradientWatch
from lpot_lightning.pruning.channels.plan import ChannelPlan
from lpot_lightning.runs.trained import Trained
from lpot_lightning.runs.tuning_result import TuningResult, read_result
from lpot_lightning.trainer.checkpoint import read_checkpoint
from lpot_lightning.trainer.checks import check_trainer
from lpot_lightning.trainer.keepers import CHOICES, Choice, saved_weights
from lpot_lightning.trainer.package import either
from lpot_lightning.trainer.tuned_run import Request, run_quantization
from lpot_lightning.trainer.weights import Weights, chosen_weights
from lpot_lightning.tuning.strategies.table import find_strategy

_PATH_LIKE = re.compile(r"[/\\]|\.\w+$")
_LITERAL = re.compile(r"[\w.\-/]+")
"""A key of ``op_wise`` that is a name and no regular expression."""


class TunedCallback(JudgedCallback[TuningResult]):
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
        find_strategy(conf.tuning.strategy.name)
        _check_ckpt(ckpt)
        super().__init__(conf, monitor, modules)
        self.ckpt = ckpt
        self._readable: str | None = None
        self._gradients: GradientWatch | None = None

    @override
    def _read_result(self, workspace: Path) -> TuningResult:
        return read_result(workspace / RESULT)

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work, before any training."""
        if stage != "fit":
            return
        self._readable = None
        check_trainer(trainer)
        self._check_last(trainer)
        same = [
            type(one).__name__ for one in callbacks_of(trainer) if isinstance(one, TunedCallback)
        ]
        if len(same) > 1:
            raise ConfError(
                f"the Trainer has {len(same)} callbacks that quantize ({', '.join(same)}): the"
                " second would quantize the same model again; keep one"
            )
        check_order(trainer, self)
        super().setup(trainer, pl_module, stage)

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse names that the model has not, and a model that cannot be copied."""
        check_copyable(pl_module)
        check_names(pl_module, self.modules, [key for key, _ in self.conf.quantization.op_wise])

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for gradients at the first validation; with inference mode there are none."""
        first = trainer.state.fn == TrainerFn.FITTING and self._found_monitor is None
        compiled = any(map(is_compiled, pl_module.modules()))  # where hooks are not called
        if first and not compiled and not torch.is_inference_mode_enabled():
            self._gradients = GradientWatch(pl_module)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a model of which nothing can be int8, and find the metric to judge by."""
        if self._all_derived():
            raise QuantizationError(
                f"the validation of `{type(pl_module).__name__}` takes gradients through all of its"
                " layers, and int8 has none: nothing of it can be quantized"
            )
        super().on_validation_end(trainer, pl_module)

    @override
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leave the module and the workspace to others."""
        self._all_derived()
        super().on_exception(trainer, pl_module, exception)

    def _all_derived(self) -> bool:
        watch, self._gradients = self._gradients, None
        return watch is not None and watch.end()

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make sure that the first checkpoint can be read again."""
        self._check_readable(trainer)

    @override
    def on_train_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        """Make sure that the first checkpoint can be read again, also in the middle of an epoch."""
        self._check_readable(trainer)

    def _request(self, trainer: Trainer, module: LightningModule, weights: Weights) -> Request:
        return Request(
            conf=self.conf,
            monitor=self._monitor,
            modules=self.modules,
            weights=weights,
            workspace=self._workspace,
            dense=_dense_accuracy(trainer),
            plan=_plan(trainer, module),
        )

    def _quantize(
        self,
        trainer: Trainer,
        module: LightningModule,
        request: Request,
        trained: Trained | None = None,
    ) -> None:
        """Quantize, judge, tune, save."""
        session = self._opened(trainer, module)
        result = run_quantization(trainer, session, request, trained)
        result = judged_later(result, trainer, session, request.conf)
        self._leave(result, request.workspace.folder)
        self._release()

    @override
    def _what_is_left(self, trainer: Trainer, module: LightningModule) -> str:
        return f"{self._workspace.left()}; {self._trained_left(trainer, module)}"

    def _check_last(self, trainer: Trainer) -> None:
        kept = [one for one in callbacks_of(trainer) if isinstance(one, either(ModelCheckpoint))]
        if self.ckpt == "last" and kept and not any(one.save_last for one in kept):
            raise ConfError(
                "`ckpt` is `last`, and no ModelCheckpoint keeps the last one: give it"
                " `save_last=True`, or quantize the weights in memory with `ckpt='current'`"
            )

    def _check_readable(self, trainer: Trainer) -> None:
        if self._readable is not None:
            return
        callbacks, monitor = callbacks_of(trainer), self._found_monitor
        if path := saved_weights(callbacks, self.ckpt, monitor):
            read_checkpoint(path)
            self._readable = path

    def _weights(self, trainer: Trainer, module: LightningModule) -> Weights:
        pruning = pruning_in(trainer)
        masks = None if pruning is None else pruning.masks
        monitor = self._found_monitor
        return chosen_weights(trainer, module, self.ckpt, monitor, masks, "quantizing")


def _check_ckpt(value: str) -> None:
    if isinstance(value, os.PathLike) or (isinstance(value, str) and _PATH_LIKE.search(value)):
        raise ConfError(
            f"`ckpt` is `{value}`; allowed: {quoted(CHOICES)}, of this fit. The weights of a file"
            " are quantized by `lpot_lightning.quantize(trainer, model, …, ckpt_path=…)`"
        )
    check_choice("ckpt", value, CHOICES)


def _dense_accuracy(trainer: Trainer) -> float | None:
    """Return the accuracy before the model was pruned, if this trainer prunes and has judged it."""
    pruning = pruning_in(trainer)
    return None if pruning is None or pruning.result is None else pruning.result.baseline


def _plan(trainer: Trainer, module: LightningModule) -> ChannelPlan | None:
    """Return by what channels are cut out of the model, if this trainer prunes and has ended it."""
    pruning = pruning_in(trainer)
    return None if pruning is None or pruning.result is None else pruning.plan(module)


def check_names(model: nn.Module, modules: Iterable[str], op_wise: Iterable[str]) -> None:
    """Refuse names of ``modules`` and literal ``op_wise`` keys that no module of ``model`` has.

    Whether a name means something that can be quantized is known only when the model was called;
    names of functional ops, with a ``#``, and regular expressions are left for then.

    Raises:
        ConfError: with the nearest name that there is.
    """
    known = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    for pattern in modules:
        if "#" not in pattern and not any(fnmatchcase(name, pattern) for name in known):
            raise ConfError(
                f"`modules` has `{pattern}`, which matches no module.{did_you_mean(pattern, known)}"
            )
    for key in op_wise:
        if _LITERAL.fullmatch(key) and key not in known:
            raise ConfError(
                f"`quantization.op_wise.{key}` matches no module.{did_you_mean(key, known)}"
            )
