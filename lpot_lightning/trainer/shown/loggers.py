"""What the loggers of a Trainer are given: scalars, and one picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_warn

from lpot_lightning.errors import in_short
from lpot_lightning.runs.pruning_result import PruningResult
from lpot_lightning.runs.result import Result
from lpot_lightning.runs.tuning_result import TuningResult
from lpot_lightning.trainer.package import either
from lpot_lightning.trainer.shown.trials_figure import can_draw, trials_figure
from lpot_lightning.tuning.trial import Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PREFIX = "lpot/"
PICTURE = f"{PREFIX}trials"
_WITH_PICTURES = TensorBoardLogger, WandbLogger, MLFlowLogger


_WARNED: WeakValueDictionary[int, Any] = WeakValueDictionary()
"""Loggers that have failed, by their ids: a user's own need not be hashable."""


def log_scalars(trainer: Trainer, scalars: Mapping[str, float], step: int) -> None:
    """Log under our own prefix, from the first process alone."""
    for logger in trainer.loggers if trainer.is_global_zero else ():
        named = {f"{PREFIX}{name}": value for name, value in scalars.items()}
        with _warned_of(logger):
            logger.log_metrics(named, step=step)
            logger.save()


@contextmanager
def _warned_of(logger: Any) -> Iterator[None]:
    """Warn of what a logger raises, once: a training and its result are worth more than a line."""
    try:
        yield
    except Exception as error:
        if _WARNED.get(id(logger)) is logger:
            return
        _WARNED[id(logger)] = logger
        rank_zero_warn(
            f"`{type(logger).__name__}` does not take what is logged as `{PREFIX}…`"
            f" ({in_short(error)}); the run goes on, and its result is not changed by it"
        )


def log_trial(trainer: Trainer, trial: Trial, monitor: str) -> None:
    """Log what a trial gave, one step after the trial before."""
    recipe, score = trial.recipe, trial.score
    scalars = {"fp32_ops": float(len(recipe.fp32_ops)), "seconds": score.seconds}
    if score.accuracy is not None and not score.screened:
        scalars[monitor] = score.accuracy
    if score.objective is not None:
        scalars["objective"] = score.objective
    log_scalars(trainer, scalars, trainer.global_step + trial.number)


def log_tuning(trainer: Trainer, result: TuningResult) -> None:
    """Log what a quantization came to, and a picture of its trials where a logger takes one."""
    step = trainer.global_step + len(result.trials)
    scalars = {"speedup": result.speedup, "size_ratio": result.size_ratio}
    log_scalars(trainer, {**_judged(result), **scalars}, step)
    if trainer.is_global_zero and can_draw() and _taking_pictures(trainer):
        _log_picture(trainer, trials_figure(result), step)


def log_pruning(trainer: Trainer, result: PruningResult) -> None:
    """Log what a pruning came to."""
    scalars = {"sparsity": result.sparsity, "parameters": float(result.parameters[1])}
    if result.speedup is not None:
        scalars["speedup"] = result.speedup
    log_scalars(trainer, {**_judged(result), **scalars}, trainer.global_step)


def _judged(result: Result) -> dict[str, float]:
    return {
        "baseline": result.baseline,
        "target": result.criterion.target(result.baseline),
        f"{result.kind}_accuracy": result.accuracy,
        f"{result.kind}_drop": result.drop,
    }


def _taking_pictures(trainer: Trainer) -> list[Any]:
    return [one for one in trainer.loggers if isinstance(one, either(*_WITH_PICTURES))]


def _log_picture(trainer: Trainer, figure: Figure, step: int) -> None:
    """Give each logger the picture by its own call for pictures."""
    for logger in _taking_pictures(trainer):
        with _warned_of(logger):
            _give_picture(logger, figure, step)
            logger.save()


def _give_picture(logger: Any, figure: Figure, step: int) -> None:
    if isinstance(logger, either(MLFlowLogger)):
        logger.experiment.log_figure(logger.run_id, figure, f"{PICTURE}.png")
    elif isinstance(logger, either(WandbLogger)):
        logger.log_image(PICTURE, [_pixels(figure)], step=step)
    else:
        logger.experiment.add_image(PICTURE, _pixels(figure), step, dataformats="HWC")


def _pixels(figure: Any) -> np.ndarray[Any, Any]:
    """Return the figure as an array of height, width and red, green, blue."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
