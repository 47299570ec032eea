"""One imperative run: calibrated or trained by the user's function, then tuned."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from functools import partial
from math import isfinite

from torch import nn

from lpot_lightning.conf.quantization import DYNAMIC
from lpot_lightning.conf.schema import Conf
from lpot_lightning.data.batches import CollectedCalls
from lpot_lightning.errors import EvaluationError
from lpot_lightning.judging.plain_runner import PlainRunner
from lpot_lightning.lpot.data_sources import Sources
from lpot_lightning.lpot.given import QAT
from lpot_lightning.lpot.q_func import train_by
from lpot_lightning.machine.random_numbers import seeded
from lpot_lightning.module.copying import second_model
from lpot_lightning.quantization.backend import Training
from lpot_lightning.runs.frozen import ExactModules
from lpot_lightning.runs.model_watch import Changes
from lpot_lightning.runs.options import Listener, Options
from lpot_lightning.runs.quantize import quantize_model
from lpot_lightning.runs.trained import Trained
from lpot_lightning.runs.training import FEW, first_training, next_training
from lpot_lightning.runs.tuning_result import TuningResult
from lpot_lightning.runs.workspace import Workspace
from lpot_lightning.tuning.in_words import trial_line

_LOG = logging.getLogger(__name__)


def quantize_by(
    sources: Sources, conf: Conf, workspace: Workspace, modules: tuple[str, ...] = ()
) -> TuningResult:
    """Quantize a model by its sources; random numbers are as before afterwards.

    Args:
        sources: of the run.
        conf: checked.
        workspace: where the files go; nobody else is in it.
        modules: see ``Options``.

    Raises:
        LpotError: of the kind that says what is wrong.
        Exception: what ``q_func`` raises.
    """
    with seeded(conf.tuning.random_seed):
        options = Options(modules=modules, workspace=workspace, depends_on=sources.judge.depends_on)
        run = _PlainQuantization(sources, conf, options)
        result = run.train() if conf.quantization.approach == QAT else run.calibrate()
    judge = partial(sources.judge.accuracy_of, seed=conf.tuning.random_seed)
    origin = dataclasses.replace(result.origin, judge=judge)
    result = dataclasses.replace(result, origin=origin)
    _LOG.info("\n%s", result.table())
    return result


class _PlainQuantization:
    """One call, its arguments checked."""

    def __init__(self, sources: Sources, conf: Conf, options: Options) -> None:
        self._sources, self._conf, self._options = sources, conf, options

    def calibrate(self) -> TuningResult:
        """Quantize a copy of the model as it is."""
        calibration = self._conf.quantization.calibration
        size = calibration.sampling_size
        data = self._data(size)
        static = self._conf.quantization.approach != DYNAMIC  # which looks for no range before
        if static and calibration.is_asked and data is not None and data.samples < size:
            warnings.warn(
                f"{data.origin} has {data.samples} samples,"
                f" `quantization.calibration.sampling_size` asks for {size}: all are used",
                UserWarning,
                stacklevel=4,
            )
        return self._tuned(self._sources.model, data, None)

    def train(self) -> TuningResult:
        """Train a copy of the model with rounding, then quantize it."""
        model, data, conf, say = self._sources.model, self._data(FEW), self._conf, _LOG.info
        runner, copied = self._runner(model, data), second_model(model)
        training = first_training(copied, conf, runner, self._options, say)
        start = runner.evaluate(copied, "baseline").accuracy
        if not isfinite(start):
            raise EvaluationError(
                f"{self._sources.judge.name} returned {start} for the fp32 model; allowed: a finite"
                " number"
            )
        trained = second_model(model)
        say(f"training {len(training.int8_ops)} ops with the rounding of int8")
        assert self._sources.q_func is not None  # it is checked

        def again(changed: nn.Module, changes: Changes) -> tuple[Training, ExactModules]:
            runner, model = self._runner(changed, data), second_model(changed)
            return next_training(model, conf, runner, self._options, changes, say)

        state = train_by(self._sources.q_func, trained, training, again)
        return self._tuned(trained, data, Trained(state, start=start))

    def _tuned(
        self, model: nn.Module, data: CollectedCalls | None, trained: Trained | None
    ) -> TuningResult:
        runner = self._runner(model, data)
        return quantize_model(
            second_model(model),
            self._conf,
            runner,
            runner,
            self._options,
            Listener(
                say=_LOG.info,
                trial=lambda trial, monitor: _LOG.info(trial_line(trial, monitor)),
            ),
            trained,
        )

    def _data(self, size: int) -> CollectedCalls | None:
        shown = self._sources.data
        return None if shown is None else shown.collected(size, self._conf.tuning.random_seed)

    def _runner(self, model: nn.Module, data: CollectedCalls | None) -> PlainRunner:
        return self._sources.judge.runner(model, data, self._conf.tuning.random_seed)
