"""One call of a benchmark: in this process, or in several."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch import nn

from lpot_lightning.api.batches import Call
from lpot_lightning.api.benchmark_given import BenchmarkGiven
from lpot_lightning.api.benchmark_result import BenchmarkResult, InstanceResult
from lpot_lightning.api.cores import Place, places
from lpot_lightning.api.from_yaml import judge_for, loader_for
from lpot_lightning.api.held import hold
from lpot_lightning.api.instances import find_in
from lpot_lightning.api.percentiles import Timed, speed_of
from lpot_lightning.api.timing import Found, Work, find, threads
from lpot_lightning.conf.schema import AccuracyConf, Conf, PerformanceConf
from lpot_lightning.errors import ConfError

_LOG = logging.getLogger(__name__)
CALLS = 20
"""Of a function, or on one batch, where `iteration` is -1 and there are no batches to count."""


def benchmark_given(given: BenchmarkGiven, conf: Conf) -> BenchmarkResult:
    """Measure what is given.

    Args:
        given: checked.
        conf: checked.

    Raises:
        LpotError: of the kind that says what is wrong.
    """
    result = _accuracy(given, conf) if given.mode == "accuracy" else _performance(given, conf)
    _LOG.info("\n%s", result.table())
    return result


def _performance(given: BenchmarkGiven, conf: Conf) -> BenchmarkResult:
    asked = performance_of(conf)
    where = places(asked.configs)
    if where and given.is_int8 and isinstance(given.model, nn.Module):
        raise ConfError(
            "the model is int8, which cannot be sent to the processes that"
            " `evaluation.performance.configs` asks for: give the folder of its workspace, and the"
            " fp32 model, `benchmark('lpot_workspace/…', loader, fp32=model)`"
        )
    work = _work(given, conf, asked)
    few = asked.configs.intra_num_of_threads if asked.configs else None
    with threads(few):
        count = where[0].threads if where else torch.get_num_threads()
        _LOG.info(
            "timing %d calls after %d of warm-up%s",
            work.iterations,
            work.warmup,
            f", in {len(where)} processes" if where else "",
        )
        found = find_in(where, work) if where else (find(work),)
    result = BenchmarkResult(
        conf.model.name, "int8" if given.is_int8 else "model", count, work.warmup
    )
    return with_found(result, found, where)


def performance_of(conf: Conf) -> PerformanceConf:
    """Return ``evaluation.performance`` of a conf, the defaults where it has none."""
    asked = conf.evaluation.performance if conf.evaluation is not None else None
    return PerformanceConf() if asked is None else asked


def _work(given: BenchmarkGiven, conf: Conf, asked: PerformanceConf) -> Work:
    most, seed = asked.iteration, conf.tuning.random_seed
    calls: tuple[Call, ...] = ()
    count = CALLS
    if given.b_func is None:
        loader = given.b_dataloader
        loader = loader_for(conf, "performance") if loader is None else loader
        calls = hold(loader, most if most > 0 else None, origin="`b_dataloader`", seed=seed)
        count = len(calls)
    iterations = most - asked.warmup if most > 0 else count
    return Work(given.model, given.fp32, calls, given.b_func, asked.warmup, iterations, seed)


def with_found(
    result: BenchmarkResult, found: Sequence[Found], where: Sequence[Place] = ()
) -> BenchmarkResult:
    """Return ``result`` with what was found in one process, or in each of several."""
    timed = [one.timed for one in found]
    compared = len(timed[0]) > 1
    accuracies = found[0].accuracies
    return replace(
        result,
        speed=speed_of([one[0] for one in timed]),
        fp32=speed_of([one[1] for one in timed]) if compared else None,
        speedup=_ratio(timed) if compared else None,
        accuracy=accuracies[0],
        fp32_accuracy=accuracies[1] if compared else None,
        instances=tuple(
            InstanceResult(place.cores, place.threads, *(speed_of([part]) for part in one))
            for place, one in zip(where, timed, strict=bool(where))
        ),
    )


def _ratio(timed: Sequence[tuple[Timed, ...]]) -> float:
    """Return the median seconds of fp32 over those of the model, all processes together."""
    ours, theirs = ([one for part in timed for one in part[place].seconds] for place in (0, 1))
    return median(theirs) / median(ours)


def _accuracy(given: BenchmarkGiven, conf: Conf) -> BenchmarkResult:
    judge = given.b_func or _judge(given, conf)
    work = Work(given.model, given.fp32, (), judge, 0, 0, conf.tuning.random_seed)
    accuracies = find(work).accuracies
    if accuracies[0] is None:
        raise ConfError(
            "`b_func` returned no number, and `mode` is `accuracy`: return the accuracy"
        )
    return BenchmarkResult(
        conf.model.name,
        "int8" if given.is_int8 else "model",
        torch.get_num_threads(),
        0,
        accuracy=accuracies[0],
        fp32_accuracy=accuracies[1] if len(accuracies) > 1 else None,
    )


def _judge(given: BenchmarkGiven, conf: Conf) -> Callable[[nn.Module], Any]:
    asked = conf.evaluation.accuracy if conf.evaluation is not None else None
    if asked is None or asked.metric is None:
        raise ConfError(
            "`mode` is `accuracy`, and there is nothing to judge by: give a `b_func(model)` that"
            " returns the accuracy, or name a metric in `evaluation.accuracy.metric`"
        )
    loader = given.b_dataloader
    loader = loader_for(conf, "accuracy") if loader is None else loader
    return judge_for(AccuracyConf() if asked is None else asked, loader, conf.source)
