"""One call of a benchmark: in this process, or in several."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from lpot_lightning.conf.schema import Conf, PerformanceConf
from lpot_lightning.data.batches import Call
from lpot_lightning.data.meter import Meter
from lpot_lightning.deploy.running.file_model import FileModel
from lpot_lightning.errors import ConfError, EvaluationError, LpotError, in_short
from lpot_lightning.judging.measuring import metric_of
from lpot_lightning.lpot.benchmark_given import BenchmarkGiven
from lpot_lightning.lpot.given import LoaderWithOrigin, accuracy_of, block_loader, given_loader
from lpot_lightning.lpot.plain_judge import metric_judge
from lpot_lightning.timing.cores import CpuShare, cpu_shares
from lpot_lightning.timing.held_batches import hold
from lpot_lightning.timing.in_turns import Timings, Work, find, threads
from lpot_lightning.timing.percentiles import Timed, speed_of
from lpot_lightning.timing.processes import find_in
from lpot_lightning.timing.ratio import Ratio
from lpot_lightning.timing.result import BenchmarkResult, FileResult, InstanceResult

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
    where = cpu_shares(asked.configs)
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
        name=conf.model.name,
        label=given.label,
        threads=count,
        warmup=work.warmup,
        **_of_files(given),
    )
    return with_found(result, found, where)


def performance_of(conf: Conf) -> PerformanceConf:
    """Return ``evaluation.performance`` of a conf, the defaults where it has none."""
    asked = conf.evaluation.performance if conf.evaluation is not None else None
    return PerformanceConf() if asked is None else asked


def _work(given: BenchmarkGiven, conf: Conf, asked: PerformanceConf) -> Work:
    most, seed, origin = asked.iteration, conf.tuning.random_seed, "the `b_func`"
    calls: tuple[Call, ...] = ()
    if given.b_func is None:
        loader = _to_time_on(given, conf)
        origin, held = loader.origin, most if most > 0 else loader.most
        calls = hold(loader.batches, held, origin=origin, seed=seed)
    return Work(
        model=given.model,
        fp32=given.fp32,
        files=tuple(given.files.values()),
        calls=calls,
        func=given.b_func,
        warmup=asked.warmup,
        iterations=most - asked.warmup if most > 0 else len(calls) or CALLS,
        seed=seed,
        origin=origin,
    )


def _to_time_on(given: BenchmarkGiven, conf: Conf) -> LoaderWithOrigin:
    block = performance_of(conf).dataloader
    own = given_loader(given.b_dataloader, given.origin)
    found = own or block_loader(conf, "evaluation.performance.dataloader", block)
    return found or _to_judge_on(given, conf)


def _to_judge_on(given: BenchmarkGiven, conf: Conf) -> LoaderWithOrigin:
    block = accuracy_of(conf).dataloader
    own = given_loader(given.b_dataloader, given.origin)
    found = own or block_loader(conf, "evaluation.accuracy.dataloader", block)
    if found is not None:
        return found
    raise ConfError(
        "there is no data to show the model: give a `b_dataloader`, a `b_func(model)` that brings"
        " its own, or a `dataloader` in `evaluation` of the YAML; a batch is `(input, label)`, or"
        " the input alone"
    )


def with_found(
    result: BenchmarkResult, found: Sequence[Timings], where: Sequence[CpuShare] = ()
) -> BenchmarkResult:
    """Return ``result`` with what was found in one process, or in each of several.

    Its ``files`` are those that took their turns last.
    """
    timed = [one.timed for one in found]
    before = len(timed[0]) - len(result.files)
    ratio = _ratio(timed, 0) if before > 1 else None
    numbered = enumerate(result.files, start=before)
    with_speeds = replace(
        result,
        speed=speed_of([one[0] for one in timed]),
        fp32=speed_of([one[1] for one in timed]) if before > 1 else None,
        speedup=None if ratio is None else ratio.middle,
        speedup_spread=None if ratio is None else ratio.spread,
        files=tuple(_timed_file(one, timed, number, before - 1) for number, one in numbered),
        instances=tuple(
            _instance(place, one, before) for place, one in zip(where, timed, strict=bool(where))
        ),
    )
    return _with_accuracies(with_speeds, found[0].accuracies)


def _timed_file(
    file: FileResult, timed: Sequence[tuple[Timed, ...]], place: int, reference: int
) -> FileResult:
    ratio = _ratio(timed, place, reference)
    speed = speed_of([one[place] for one in timed])
    return replace(file, speed=speed, speedup=ratio.middle, speedup_spread=ratio.spread)


def _instance(place: CpuShare, timed: Sequence[Timed], before: int) -> InstanceResult:
    """Return what one process measured: ``before`` the files there are one or two models."""
    speeds = [speed_of([part]) for part in timed]
    return InstanceResult(
        cores=place.cores,
        threads=place.threads,
        speed=speeds[0],
        fp32=speeds[1] if before > 1 else None,
        files=tuple(speeds[before:]),
    )


def _ratio(timed: Sequence[tuple[Timed, ...]], place: int, reference: int = 1) -> Ratio:
    """Return the seconds of one over those of another, of the pairs of all processes."""
    ours, theirs = (
        [one for part in timed for one in part[which].seconds] for which in (place, reference)
    )
    return Ratio.of(theirs, ours)


def _accuracy(given: BenchmarkGiven, conf: Conf) -> BenchmarkResult:
    meter = None if given.b_func is not None else _meter(given, conf)
    judge = given.b_func if meter is None else _judge(given, conf, meter)
    work = Work(
        model=given.model,
        fp32=given.fp32,
        files=tuple(given.files.values()),
        calls=(),
        func=judge,
        warmup=0,
        iterations=0,
        seed=conf.tuning.random_seed,
    )
    accuracies = find(work).accuracies
    if accuracies[0] is None:
        raise ConfError(
            "`b_func` returned no number, and `mode` is `accuracy`: return the accuracy"
        )
    result = BenchmarkResult(
        name=conf.model.name,
        label=given.label,
        threads=torch.get_num_threads(),
        warmup=0,
        monitor="accuracy" if meter is None else meter.name,
        **_of_files(given),
    )
    return _with_accuracies(result, accuracies)


def _of_files(given: BenchmarkGiven) -> dict[str, Any]:
    """Return what there is to say of files before anything is measured."""
    files = (FileResult(label=name, runtime=one.runs_in) for name, one in given.files.items())
    runtime = given.model.runs_in if isinstance(given.model, FileModel) else ""
    return {"files": tuple(files), "runtime": runtime}


def _with_accuracies(result: BenchmarkResult, found: Sequence[float | None]) -> BenchmarkResult:
    """Return ``result`` with the accuracies of the model, of fp32 if there is one, of the files."""
    before = len(found) - len(result.files)
    each = zip(result.files, found[before:], strict=True)
    return replace(
        result,
        accuracy=found[0],
        fp32_accuracy=found[1] if before > 1 else None,
        files=tuple(replace(one, accuracy=accuracy) for one, accuracy in each),
    )


def _meter(given: BenchmarkGiven, conf: Conf) -> Meter:
    if given.metric is not None:
        return given.metric
    named = accuracy_of(conf).metric
    if named is None:
        raise ConfError(
            "`mode` is `accuracy`, and there is nothing to judge by: give a `b_func(model)` that"
            " returns the accuracy, or a metric, `evaluation.accuracy.metric` in the YAML or"
            " `benchmark.metric(name, cls)`"
        )
    return metric_of(named)


def _judge(given: BenchmarkGiven, conf: Conf, meter: Meter) -> Callable[[nn.Module], float]:
    judge = metric_judge(_to_judge_on(given, conf), meter, conf, given.fp32)

    def judged(model: nn.Module) -> float:
        try:
            return judge(model)
        except LpotError:
            raise
        except Exception as error:  # whatever the second model says to what the first one took
            raise EvaluationError(
                f"{judge.name} cannot be taken of {judge.origin} with a `{type(model).__name__}`"
                f" ({in_short(error)}), as it was with another model before"
            ) from error

    return judged
