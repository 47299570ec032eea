"""One quantization with a trainer as the judge: what is said, logged and saved."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from lpot_lightning.conf.schema import Conf
from lpot_lightning.pruning.channels.plan import ChannelPlan
from lpot_lightning.runs.options import Listener, Options
from lpot_lightning.runs.quantize import quantize_model
from lpot_lightning.runs.trained import Trained
from lpot_lightning.runs.tuning_result import TuningResult
from lpot_lightning.runs.workspace import Workspace
from lpot_lightning.trainer.calibration import Source
from lpot_lightning.trainer.checkpoint import write_checkpoint
from lpot_lightning.trainer.fit_validations import FitValidations
from lpot_lightning.trainer.session import Session
from lpot_lightning.trainer.shown.loggers import log_trial, log_tuning
from lpot_lightning.trainer.shown.printing import print_result
from lpot_lightning.trainer.weights import Weights
from lpot_lightning.tuning.in_words import trial_line
from lpot_lightning.tuning.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Request:
    """What one quantization is asked for in a Trainer.

    Args:
        conf: checked.
        monitor: the metric to judge by, where it is known.
        modules: names or globs of what is to be quantized; empty means everything.
        weights: those of the best checkpoint, or those in memory.
        workspace: where the files go.
        calib: ``"train"`` or ``"val"``.
        train: training data, where it is not that of the trainer.
        dense: the accuracy before the model was pruned, where it was.
        plan: by which channels are cut out of it first.
        validations: those of the fit, which may have judged the same model.
    """

    conf: Conf
    monitor: str | None
    modules: tuple[str, ...]
    weights: Weights
    workspace: Workspace
    calib: Source = "train"
    train: Any = None
    dense: float | None = None
    plan: ChannelPlan | None = None
    validations: FitValidations | None = None


def run_quantization(
    trainer: Trainer, session: Session, request: Request, trained: Trained | None = None
) -> TuningResult:
    """Quantize a copy of the session's module with its validation loop as the judge.

    In a trainer of several processes all of them call it, and all get the result.

    Args:
        trainer: whose loggers hear of it.
        session: of the fit.
        request: what is asked for.
        trained: what a training for int8 came to; without it the copy is calibrated.
    """
    conf, folder = request.conf, request.workspace.folder
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        conf = _one_trial(conf)
    told: set[str] = set()

    def say_once(text: str) -> None:
        if text not in told:
            rank_zero_info(text)
        told.add(text)

    def saved(configure: Mapping[str, Any], plain: Mapping[str, Tensor]) -> None:
        assert folder is not None
        own = request.weights.model_of(session.module)
        fp32 = own.state_dict()  # dense: what its class can load
        write_checkpoint(folder, trainer, own, fp32, configure, plain, say_once)

    with session.at_work(conf, request.weights, request.plan) as work:
        result = quantize_model(
            work.model(),
            conf,
            work.judge(request.monitor, request.validations),
            work.feed(calib=request.calib, train=request.train, tells=trained is None),
            Options(
                modules=request.modules,
                workspace=request.workspace,
                ranks=work.ranks,
                dense=request.dense,
                channels=None if request.plan is None else request.plan.to_dict(),
            ),
            Listener(say=rank_zero_info, trial=partial(_tell, trainer), saved=saved),
            trained,
        )
    print_result(trainer, result.table())
    log_tuning(trainer, result)
    return result


def _one_trial(conf: Conf) -> Conf:
    policy = dataclasses.replace(conf.tuning.exit_policy, max_trials=1)
    return dataclasses.replace(conf, tuning=dataclasses.replace(conf.tuning, exit_policy=policy))


def _tell(trainer: Trainer, trial: Trial, monitor: str) -> None:
    """One line a trial, and its scalars to the loggers."""
    rank_zero_info(trial_line(trial, monitor))
    log_trial(trainer, trial, monitor)
