"""What judges models: a function of the user's, or a metric and a loader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from lpot_lightning.conf.schema import Conf
from lpot_lightning.data.batches import CollectedCalls
from lpot_lightning.data.meter import Meter
from lpot_lightning.judging.loader_judge import ALL, LoaderJudge
from lpot_lightning.judging.measuring import direction_of, evaluation_of, metric_of
from lpot_lightning.judging.plain_runner import ACCURACY, PlainRunner
from lpot_lightning.lpot.given import (
    Evaluate,
    Given,
    LoaderWithOrigin,
    accuracy_of,
    block_loader,
    given_loader,
)
from lpot_lightning.module.copying import second_model


@dataclass(frozen=True, kw_only=True)
class ModelJudge:
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

    def accuracy_of(self, model: nn.Module, seed: int) -> float:
        """Return the accuracy of ``model``, judged as all models of a run are."""
        return self.runner(model, None, seed).evaluate(model, "the exported file").accuracy

    def runner(self, model: nn.Module, data: CollectedCalls | None, seed: int) -> PlainRunner:
        """Return what judges by this, calibrates on ``data``, and copies ``model``."""
        return PlainRunner(
            lambda: second_model(model),
            self.of,
            data,
            higher_is_better=self.higher_is_better,
            monitor=self.monitor,
            judge=self.name,
            seed=seed,
        )


def eval_loader_of(given: Given, conf: Conf) -> LoaderWithOrigin | None:
    """Return what models are judged on by a metric: the user's loader, else that of the conf.

    Raises:
        LpotError: if it cannot be made.
    """
    own, block = given.eval_dataloader, accuracy_of(conf).dataloader
    found = given_loader(own, "`eval_dataloader`")
    return found or block_loader(conf, "evaluation.accuracy.dataloader", block)


def judge_of(given: Given, conf: Conf, loader: LoaderWithOrigin | None = None) -> ModelJudge:
    """Return what judges models: ``eval_func``, else the metric and the loader.

    Args:
        given: with something to judge by, as ``check_data_and_judge`` says.
        conf: gives what is not given.
        loader: what ``eval_loader_of`` returned; where it is not given, it is made.

    Raises:
        ConfError: if the direction of the metric is contradicted, or nobody says it.
        LpotError: if the loader cannot be made.

    Example::

        judge = judge_of(Given(model=model, eval_dataloader=loader), conf)
        judge.of(model)  # such as 0.76
    """
    asked = conf.tuning.accuracy_criterion.higher_is_better
    if given.eval_func is not None:
        way = direction_of(ACCURACY, asked)
        return ModelJudge(
            of=given.eval_func, monitor=ACCURACY, higher_is_better=way, name="`eval_func`"
        )
    meter = given.metric
    if meter is None:
        named = accuracy_of(conf).metric
        assert named is not None  # it is checked
        meter = metric_of(named)
    way = direction_of(meter.name, asked, meter.higher_is_better, meter.usually)
    loader = loader or eval_loader_of(given, conf)
    assert loader is not None  # it is checked
    judge = metric_judge(loader, meter, conf, given.model)
    return ModelJudge(
        of=judge,
        monitor=meter.name,
        higher_is_better=way,
        name=judge.name,
        depends_on=lambda: {"evaluation_data_and_metric": judge.digest},
    )


def metric_judge(
    loader: LoaderWithOrigin, meter: Meter, conf: Conf, fp32: nn.Module | None
) -> LoaderJudge:
    """Return what judges models by a metric, on a loader and as ``evaluation.accuracy`` says.

    What ``fp32`` gives stands for labels, where a metric compares none.

    Raises:
        ConfError: if the loader can be gone through once only, or ``fp32`` is missing.
    """
    return evaluation_of(
        loader.batches,
        meter,
        accuracy_of(conf),
        origin=loader.origin,
        most=loader.most or ALL,
        reference=None if fp32 is None else lambda: second_model(fp32),
        seed=conf.tuning.random_seed,
    )
