"""The user's metric of another model, when the run is over."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any, TypeVar

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from typing_extensions import override

from lpot_lightning.conf.schema import Conf, ModelConf
from lpot_lightning.errors import DataError, ExportError
from lpot_lightning.machine.random_numbers import seeded
from lpot_lightning.runs.result import Result
from lpot_lightning.trainer.borrowed_validate import borrowed, validate_quietly
from lpot_lightning.trainer.loaders import validated_on
from lpot_lightning.trainer.package import either
from lpot_lightning.trainer.precision import judging_precision
from lpot_lightning.trainer.session import Session

R = TypeVar("R", bound=Result)


def judged_in(session: Session, conf: Conf, monitor: str, model: nn.Module) -> float:
    """Return the metric of a model, by the whole validation loop of a session.

    Args:
        session: of a fit, or inside of ``validate``.
        conf: checked.
        monitor: name of the metric.
        model: of the user's class.

    Raises:
        LpotError: if the loop cannot judge it.
    """
    with session.at_work(conf) as work:
        return work.judge(monitor).evaluate(model, "the exported file").accuracy


def judged_later(result: R, trainer: Trainer, session: Session, conf: Conf) -> R:
    """Return a result that can be asked for the metric of another model when the run is over.

    Args:
        result: of a run that is going on.
        trainer: of the run.
        session: of the run.
        conf: checked.
    """
    judge = LaterJudge.of(trainer, session, conf, result.monitor)
    return replace(result, origin=replace(result.origin, judge=judge))


class LaterJudge:
    """Borrows the trainer of a run again, as ``quantize`` does, and gives everything back.

    Args:
        trainer: gives it, or ``None`` where it is gone.
        data: what ``validate`` takes: loaders, a datamodule, or ``None`` for the model's own.
        conf: checked.
        monitor: name of the metric.
        precision: what models are judged in.
    """

    def __init__(
        self,
        trainer: Callable[[], Trainer | None],
        data: Any,
        conf: Conf,
        monitor: str,
        precision: Precision,
    ) -> None:
        self._trainer, self._data, self._conf = trainer, data, conf
        self._monitor, self._precision = monitor, precision

    @classmethod
    def by(cls, trainer: Trainer, model: LightningModule, data: Any, monitor: str) -> LaterJudge:
        """Return the judge of a model that no run of this program has made.

        Args:
            trainer: as for ``quantize``.
            model: of the user's class.
            data: loaders, a datamodule, or ``None`` for the model's own.
            monitor: name of the metric.
        """
        precision = judging_precision(trainer, model, lambda _: None)
        conf = Conf(model=ModelConf("model", "pytorch_fx"))
        return cls(lambda: trainer, data, conf, monitor, precision)

    @classmethod
    def of(cls, trainer: Trainer, session: Session, conf: Conf, monitor: str) -> LaterJudge:
        """Return the judge for later, made while the run is going on.

        A trainer that fits holds the model and its optimizers, and is not kept alive for this.
        """
        fits = trainer.state.fn == TrainerFn.FITTING
        held = weakref.ref(trainer) if fits else lambda: trainer
        data = validated_on(trainer)
        own = isinstance(data, either(LightningModule))
        return cls(held, None if own else data, conf, monitor, session.precision)

    def __call__(self, model: nn.Module) -> float:
        """Return the metric of ``model``, a LightningModule, over the whole validation data.

        Raises:
            ExportError: if the trainer is gone, or has several processes.
            LpotError: if the loop cannot judge the model.
        """
        trainer = self._trainer()
        if trainer is None:
            raise ExportError(
                "the trainer that judges is gone: keep it until the model is exported, or use an"
                " `ExportCallback` in the fit"
            )
        if trainer.world_size > 1:
            raise ExportError(
                f"the trainer that judges has {trainer.world_size} processes, and one of them"
                " cannot judge alone: leave `judge` out, or quantize with `Trainer(devices=1)`"
            )
        assert isinstance(model, either(LightningModule))
        driver = _JudgingDriver(trainer, self._conf, self._monitor, self._precision)
        is_module = isinstance(self._data, either(LightningDataModule))
        loaders, data = (None, self._data) if is_module else (self._data, None)
        with (
            seeded(self._conf.tuning.random_seed),
            borrowed(trainer, model, driver, self._precision),
        ):
            validate_quietly(trainer, model, loaders, data, self._precision)
        if driver.found is None:
            raise DataError("the validation dataloader is empty: there is no batch to judge by")
        return driver.found


class _JudgingDriver(Callback):
    """Judges from inside ``validate``, where the data and the module are set up."""

    def __init__(self, trainer: Trainer, conf: Conf, monitor: str, precision: Precision) -> None:
        self._limit = trainer.limit_val_batches
        self._watchers: list[Callback] = list(trainer.callbacks)  # type: ignore[attr-defined]
        self._conf, self._monitor, self._precision = conf, monitor, precision
        self.found: float | None = None

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del vars(pl_module)["configure_callbacks"]
        trainer.limit_val_batches = self._limit
        session = Session(trainer, pl_module, self._watchers, self._precision)
        with closing(session):
            self.found = judged_in(session, self._conf, self._monitor, pl_module)
