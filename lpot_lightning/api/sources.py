"""What an imperative run works with, from what is given and from the conf."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from lpot_lightning.api.evaluating import LoaderJudge
from lpot_lightning.api.fitting import training_of
from lpot_lightning.api.given import QAT, Evaluate, Given, Train, accuracy_of
from lpot_lightning.api.loading import ENDLESS, is_endless, loader_of
from lpot_lightning.api.measuring import direction_of, evaluation_of, metric_of
from lpot_lightning.api.plain_runner import ACCURACY
from lpot_lightning.conf.blocks import DataloaderConf
from lpot_lightning.conf.schema import Conf
from lpot_lightning.quantization.replace import second_model

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loader:
    """A loader, where it comes from, and whether it never ends."""

    batches: Any
    origin: str
    endless: bool = False


@dataclass(frozen=True)
class Judge:
    """What judges models, and what its number is called.

    Args:
        of: takes a model and returns its accuracy.
        monitor: name of the accuracy.
        higher_is_better: direction of it.
        name: of the function or the metric, for messages.
        depends_on: what else the scores depend on, once a model was judged.
    """

    of: Evaluate
    monitor: str
    higher_is_better: bool
    name: str
    depends_on: Callable[[], Mapping[str, Any]] = dict


@dataclass(frozen=True)
class Sources:
    """All that a run works with.

    Args:
        model: fp32, as the user gave it.
        data: to show models.
        q_func: trains a model, where one is to be trained.
        judge: says how good a model is.
    """

    model: nn.Module
    data: Loader | None
    q_func: Train | None
    judge: Judge


def sources_of(given: Given, conf: Conf) -> Sources:
    """Return what a run works with: what is given, and from the conf what is not.

    Args:
        given: checked.
        conf: checked.

    Raises:
        LpotError: if what the conf names cannot be made.
    """
    loaders = _Loaders(given, conf)
    return Sources(
        given.model, loaders.shown(), _q_func(given, conf, loaders), _judge(given, conf, loaders)
    )


class _Loaders:
    """The loaders of one run; each block of the YAML is made once, and only where it is needed."""

    def __init__(self, given: Given, conf: Conf) -> None:
        self._given, self._conf = given, conf
        self._made: dict[str, Loader] = {}

    def shown(self) -> Loader | None:
        """Return what models are shown: to calibrate them, or to find their graphs."""
        return self._to_calibrate() or self._to_train() or self._instead()

    def trained(self) -> Loader | None:
        """Return what is trained on."""
        if self._given.q_dataloader is not None:
            return self._to_calibrate()
        return self._to_train() or self._to_calibrate()

    def judged(self) -> Loader | None:
        """Return what models are judged on by a metric."""
        if self._given.eval_dataloader is not None:
            return Loader(self._given.eval_dataloader, "`eval_dataloader`")
        return self._block("evaluation.accuracy.dataloader", accuracy_of(self._conf).dataloader)

    def _to_calibrate(self) -> Loader | None:
        if self._given.q_dataloader is not None:
            return Loader(self._given.q_dataloader, "the calibration dataloader")
        block = self._conf.quantization.calibration.dataloader
        return self._block("quantization.calibration.dataloader", block)

    def _to_train(self) -> Loader | None:
        train = self._conf.quantization.train
        if train is None or self._given.q_func is not None:
            return None
        return self._block("quantization.train.dataloader", train.dataloader)

    def _instead(self) -> Loader | None:
        found = self.judged()
        if found is not None and self._conf.quantization.approach != QAT:
            _LOG.info("there is no calibration dataloader: calibrating on %s", found.origin)
        return found

    def _block(self, key: str, block: DataloaderConf | None) -> Loader | None:
        if block is None:
            return None
        if key not in self._made:
            loader = loader_of(block, f"{self._conf.source}: `{key}`")
            self._made[key] = Loader(loader, f"`{key}`", is_endless(block))
        return self._made[key]


def _q_func(given: Given, conf: Conf, loaders: _Loaders) -> Train | None:
    train = conf.quantization.train
    if given.q_func is not None or train is None or conf.quantization.approach != QAT:
        q_func: Train | None = given.q_func
        return q_func
    loader = loaders.trained()
    assert loader is not None  # it is checked
    return training_of(
        train,
        loader.batches,
        where=f"{conf.source}: `quantization.train`",
        origin=loader.origin,
        endless=loader.endless,
    )


def _judge(given: Given, conf: Conf, loaders: _Loaders) -> Judge:
    asked = conf.tuning.accuracy_criterion.higher_is_better
    if given.eval_func is not None:
        way = direction_of(ACCURACY, asked, None)
        return Judge(given.eval_func, ACCURACY, way, "`eval_func`")
    accuracy = accuracy_of(conf)
    named = accuracy.metric
    meter = given.metric or (metric_of(named) if named is not None else None)
    assert meter is not None  # it is checked
    way = direction_of(meter.name, asked, meter.higher_is_better)
    loader = loaders.judged()
    assert loader is not None  # it is checked
    judge: LoaderJudge = evaluation_of(
        loader.batches,
        meter,
        accuracy,
        origin=loader.origin,
        most=ENDLESS if loader.endless else -1,
        reference=lambda: second_model(given.model),
        seed=conf.tuning.random_seed,
    )
    return Judge(
        judge, meter.name, way, judge.name, lambda: {"evaluation_data_and_metric": judge.digest}
    )
