"""What judges models: a function of the user's, or a metric and a loader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lpot_lightning.conf.blocks import DataloaderConf
from lpot_lightning.conf.schema import Conf
from lpot_lightning.data.block import ENDLESS, is_endless, loader_of
from lpot_lightning.judging.measuring import direction_of, evaluation_of, metric_of
from lpot_lightning.judging.plain_runner import ACCURACY
from lpot_lightning.lpot.given import Evaluate, Given, accuracy_of
from lpot_lightning.module.stand_in import second_model


@dataclass(frozen=True)
class LoaderWithOrigin:
    """A loader, where it comes from, and whether it never ends."""

    batches: Any
    origin: str
    endless: bool = False


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


def block_loader(conf: Conf, key: str, block: DataloaderConf | None) -> LoaderWithOrigin | None:
    """Return the loader of a ``dataloader`` block, ``None`` where there is no block.

    Args:
        conf: that the block is of.
        key: of the block, such as ``evaluation.accuracy.dataloader``.
        block: see there.

    Raises:
        LpotError: if it cannot be made.
    """
    if block is None:
        return None
    return LoaderWithOrigin(
        loader_of(block, f"{conf.source}: `{key}`"), f"`{key}`", is_endless(block)
    )


def eval_loader_of(given: Given, conf: Conf) -> LoaderWithOrigin | None:
    """Return what models are judged on by a metric: the user's loader, else that of the conf.

    Raises:
        LpotError: if it cannot be made.
    """
    if given.eval_dataloader is not None:
        return LoaderWithOrigin(given.eval_dataloader, "`eval_dataloader`")
    return block_loader(conf, "evaluation.accuracy.dataloader", accuracy_of(conf).dataloader)


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
        judge.of(model)  # 0.76
    """
    asked = conf.tuning.accuracy_criterion.higher_is_better
    if given.eval_func is not None:
        way = direction_of(ACCURACY, asked)
        return ModelJudge(
            of=given.eval_func, monitor=ACCURACY, higher_is_better=way, name="`eval_func`"
        )
    accuracy = accuracy_of(conf)
    meter = given.metric
    if meter is None:
        assert accuracy.metric is not None  # it is checked
        meter = metric_of(accuracy.metric)
    way = direction_of(meter.name, asked, meter.higher_is_better, meter.usually)
    loader = loader or eval_loader_of(given, conf)
    assert loader is not None  # it is checked
    judge = evaluation_of(
        loader.batches,
        meter,
        accuracy,
        origin=loader.origin,
        most=ENDLESS if loader.endless else -1,
        reference=lambda: second_model(given.model),
        seed=conf.tuning.random_seed,
    )
    return ModelJudge(
        of=judge,
        monitor=meter.name,
        higher_is_better=way,
        name=judge.name,
        depends_on=lambda: {"evaluation_data_and_metric": judge.digest},
    )
