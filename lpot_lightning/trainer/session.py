"""One quantization with a trainer as the judge: what is run, said and logged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import ArtifactError, LpotError
from lpot_lightning.machine.random_numbers import seeded
from lpot_lightning.machine.ranks import GlooRanks, Ranks
from lpot_lightning.pruning.channels.cut import cut
from lpot_lightning.runs.options import Listener, Options
from lpot_lightning.runs.quantize import quantize_model
from lpot_lightning.runs.trained import Trained
from lpot_lightning.runs.tuning_result import TuningResult, trial_line
from lpot_lightning.runs.workspace import workspace_of
from lpot_lightning.trainer import checkpoint
from lpot_lightning.trainer.placed import placed
from lpot_lightning.trainer.task import Task
from lpot_lightning.trainer.validation_runner import ValidationRunner
from lpot_lightning.tuning.trial import Trial

T = TypeVar("T")


def workspace_for(trainer: Trainer, conf: Conf) -> Path | None:
    """Return where files go; nowhere in a ``fast_dev_run``."""
    quick: int = trainer.fast_dev_run  # type: ignore[attr-defined]
    return None if quick else workspace_of(placed(trainer, conf))


def in_one_process(trainer: Trainer, work: Callable[[], T]) -> T:
    """Return in all processes what ``work`` gives in rank 0 of ``trainer``; all hear if it fails.

    Raises:
        LpotError: what ``work`` raised; in the other processes an ``ArtifactError`` that says it.
    """
    value: T | None = None
    fault: LpotError | None = None
    if trainer.is_global_zero:
        try:
            value = work()
        except LpotError as error:
            fault = error
    value, told = trainer.strategy.broadcast((value, None if fault is None else str(fault)))
    if told is not None:
        raise fault or ArtifactError(told)
    return value  # type: ignore[return-value]


def ranks_of(trainer: Trainer) -> Ranks:
    """Return the processes that train together, this one alone or several."""
    return GlooRanks() if trainer.world_size > 1 else Ranks()


@contextmanager
def judging(
    trainer: Trainer, module: LightningModule, task: Task
) -> Iterator[tuple[LightningModule, ValidationRunner, Ranks]]:
    """Give a copy of ``module``, the judge of such copies, and the processes that judge.

    Random numbers start from the seed of the conf, and are put back.
    """
    with closing(ranks_of(trainer)) as ranks, seeded(task.conf.tuning.random_seed):

        def fresh() -> LightningModule:
            model = ranks.together(partial(checkpoint.model_with, module, task.weights))
            if task.plan is not None:
                cut(model, task.plan)
            ranks.make_equal([*model.parameters(), *model.buffers()])
            return model

        model = fresh()
        yield model, ValidationRunner(trainer, module, fresh, task, rank_zero_warn, ranks), ranks


def run_quantization(
    trainer: Trainer, module: LightningModule, task: Task, trained: Trained | None = None
) -> TuningResult:
    """Quantize a copy of ``module`` with the validation loop of ``trainer`` as its judge.

    In a trainer of several processes all of them call it, and all get the result.

    Args:
        trained: what a training for int8 came to; without it the copy is calibrated.
    """
    conf = placed(trainer, task.conf)
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        conf = _one_trial(conf)
    task = dataclasses.replace(task, conf=conf)
    told: set[str] = set()

    def say_once(text: str) -> None:
        if text not in told:
            rank_zero_info(text)
        told.add(text)

    with judging(trainer, module, task) as (model, runner, ranks):

        def saved(configure: Mapping[str, Any], plain: Mapping[str, Tensor]) -> None:
            assert task.workspace is not None
            own = checkpoint.model_with(module, task.weights)
            fp32 = own.state_dict()  # dense: what its class can load
            checkpoint.write_checkpoint(
                task.workspace, trainer, own, fp32, configure, plain, say_once
            )

        result = quantize_model(
            model,
            conf,
            runner,
            Options(
                task.modules,
                task.workspace,
                whole=False,
                ranks=ranks,
                dense=task.dense,
                channels=None if task.plan is None else task.plan.to_dict(),
            ),
            Listener(say=rank_zero_info, trial=partial(_tell, trainer, runner), saved=saved),
            trained,
        )
    rank_zero_info(f"\n{result.table()}")
    log_scalars(
        trainer,
        {"speedup": result.speedup, "size_ratio": result.size_ratio},
        trainer.global_step + len(result.trials),
    )
    return result


def _one_trial(conf: Conf) -> Conf:
    policy = dataclasses.replace(conf.tuning.exit_policy, max_trials=1)
    return dataclasses.replace(conf, tuning=dataclasses.replace(conf.tuning, exit_policy=policy))


def _tell(trainer: Trainer, runner: ValidationRunner, trial: Trial) -> None:
    """One line a trial, and its scalars to the loggers."""
    recipe, score = trial.recipe, trial.score
    rank_zero_info(trial_line(trial, runner.monitor))
    scalars = {"fp32_ops": float(len(recipe.fp32_ops)), "seconds": score.seconds}
    if score.accuracy is not None and not score.screened:
        scalars[runner.monitor] = score.accuracy
    log_scalars(trainer, scalars, trainer.global_step + trial.number)


def log_scalars(trainer: Trainer, scalars: Mapping[str, float], step: int) -> None:
    """Log under our own prefix."""
    for logger in trainer.loggers if trainer.is_global_zero else ():
        named = {f"lpot/{name}": value for name, value in scalars.items()}
        logger.log_metrics(named, step=step)
        logger.save()
