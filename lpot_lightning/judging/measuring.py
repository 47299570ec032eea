"""The metric of a run, its direction, and the judge that it makes of a loader."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from lpot_lightning.conf.blocks import NamedConf
from lpot_lightning.conf.buildable import check_built
from lpot_lightning.conf.evaluation import OTHER_METRICS, OTHER_POSTPROCESSES
from lpot_lightning.conf.schema import AccuracyConf
from lpot_lightning.data.meter import Meter
from lpot_lightning.data.metrics import METRICS
from lpot_lightning.data.postprocess import POSTPROCESSES, Process
from lpot_lightning.errors import ConfError
from lpot_lightning.judging.loader_judge import LoaderJudge


def metric_of(named: NamedConf) -> Meter:
    """Return the metric that a conf names.

    Raises:
        ConfError: if it is for other frameworks than PyTorch.

    Example::

        metric_of(conf.evaluation.accuracy.metric).name  # "topk"
    """
    check_built(named, OTHER_METRICS, "`evaluation.accuracy.metric`")
    return METRICS[named.name](**named.options)


def check_measuring(accuracy: AccuracyConf, higher_is_better: bool | None) -> None:
    """Check that what ``evaluation.accuracy`` measures by can be made.

    Args:
        accuracy: of the conf.
        higher_is_better: ``tuning.accuracy_criterion.higher_is_better``.

    Raises:
        ConfError: if it cannot, or the metric and the criterion contradict each other.
    """
    _processes(accuracy)
    if accuracy.metric is not None:
        meter = metric_of(accuracy.metric)
        direction_of(meter.name, higher_is_better, meter.higher_is_better, meter.usually)


def _processes(accuracy: AccuracyConf) -> list[Process]:
    named = accuracy.postprocess.transform if accuracy.postprocess is not None else ()
    for one in named:
        check_built(one, OTHER_POSTPROCESSES, "`evaluation.accuracy.postprocess`")
    return [POSTPROCESSES[one.name](**one.options) for one in named]


def direction_of(
    name: str, asked: bool | None, of_metric: bool | None = None, usually: bool | None = True
) -> bool:
    """Return whether more is better: as the YAML says, else the metric, else as usual.

    Args:
        name: of the metric.
        asked: ``tuning.accuracy_criterion.higher_is_better``.
        of_metric: what the metric says of itself.
        usually: what is taken where both say nothing; ``None`` if that would be a guess.

    Raises:
        ConfError: if they contradict each other, or nobody says it.

    Example::

        direction_of("MSE", None, False)  # False
    """
    key = "`tuning.accuracy_criterion.higher_is_better`"
    if asked is not None and of_metric is not None and asked != of_metric:
        raise ConfError(
            f"whether a higher `{name}` is better is contradicted: {key} says {asked}, the metric"
            f" itself says {of_metric}"
        )
    for known in (asked, of_metric, usually):
        if known is not None:
            return known
    raise ConfError(f"nothing says which way `{name}` is better: set {key} in the YAML")


def evaluation_of(
    loader: Iterable[Any],
    meter: Meter,
    accuracy: AccuracyConf | None = None,
    *,
    origin: str,
    most: int = -1,
    reference: Callable[[], nn.Module] | None = None,
    seed: int,
) -> LoaderJudge:
    """Return what judges models by a loader and a metric, as an ``eval_func`` does.

    Args:
        loader: gives batches ``(input, label)``.
        meter: measures.
        accuracy: ``evaluation.accuracy`` of the conf: its ``iteration`` and ``postprocess``.
        origin: where the batches come from, for people.
        most: batches, where the conf says nothing; ``-1`` is all.
        reference: gives the fp32 model, for a metric that compares no labels.
        seed: of random numbers.

    Raises:
        ConfError: if the loader can be gone through once only, or ``postprocess`` names what is
            for other frameworks than PyTorch.

    Example::

        judge = evaluation_of(loader, metric_of(named), origin="`b_dataloader`", seed=1978)
        judge(model)  # such as 0.76
    """
    asked = accuracy or AccuracyConf()
    return LoaderJudge(
        loader,
        meter,
        origin=origin,
        iteration=asked.iteration if asked.iteration > 0 else most,
        postprocess=_processes(asked),
        reference=reference,
        seed=seed,
    )
