"""For whom an LPOT YAML is: what each of its readers says of it, before data are looked at."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lpot_lightning.conf.benchmarking import check_for_judging, check_for_timing
from lpot_lightning.conf.blocks import DataloaderConf, TrainConf
from lpot_lightning.conf.exporting import arguments_of
from lpot_lightning.conf.ownership import (
    check_for_callback,
    check_for_pruning,
    check_for_quantization,
    what_has_no_effect,
)
from lpot_lightning.conf.schema import AccuracyConf, Conf, PerformanceConf
from lpot_lightning.deploy.names import file_names, options_of
from lpot_lightning.deploy.options import form_of
from lpot_lightning.deploy.requirements import check_installed
from lpot_lightning.errors import ConfError, ExportError
from lpot_lightning.timing.cores import cpu_shares
from lpot_lightning.tuning.strategies.table import find_strategy

Check = Callable[[Conf], None]


@dataclass(frozen=True)
class ReaderVerdict:
    """What a reader says of a conf.

    Args:
        reader: a callback, or a class of LPOT's.
        reasons: why it cannot be given the conf as it is; empty if it can.
        remarks: what has no effect there.
    """

    reader: str
    reasons: tuple[str, ...]
    remarks: tuple[str, ...]


def verdicts(conf: Conf) -> list[ReaderVerdict]:
    """Ask all readers of a conf.

    They make the same checks when they are created and called. No file is looked for. Torch is
    imported where data, a metric or a training are named, Lightning never.

    Args:
        conf: checked.

    Example::

        [one.reader for one in verdicts(read_conf("ptq.yaml")) if not one.reasons]
    """
    return [_verdict(conf, reader, checks) for reader, checks in READERS.items()]


def _verdict(conf: Conf, reader: str, checks: tuple[Check, ...]) -> ReaderVerdict:
    reasons: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for check in checks:
            try:
                check(conf)
            except ConfError as error:
                reasons += error.faults
                if check is checks[0]:  # it is of another kind, and the rest follows from that
                    break
    remarks = dict.fromkeys(str(one.message) for one in caught)
    return ReaderVerdict(reader, tuple(dict.fromkeys(reasons)), tuple(remarks))


def _note_what_an_export_needs(conf: Conf) -> None:
    """Warn of packages that are missing on this machine: on another one they may be there."""
    if conf.export is None:
        return
    given = arguments_of(conf.export)
    names, options = file_names(given.pop("formats")), options_of(given)
    for form in dict.fromkeys(form_of(Path(name)) for name in names):
        try:
            check_installed(form, options)
        except ExportError as error:
            text = f"{conf.source}: not for an `ExportCallback` on this machine: {error}"
            warnings.warn(text, UserWarning, stacklevel=2)


def _check_strategy(conf: Conf) -> None:
    find_strategy(conf.tuning.strategy.name)


def _check_blocks(conf: Conf, blocks: Mapping[str, DataloaderConf | None]) -> None:
    given = {key: block for key, block in blocks.items() if block is not None}
    if not given:
        return
    from lpot_lightning.data.block import check_block  # which needs torch

    _all([partial(check_block, one, f"{conf.source}: `{key}`") for key, one in given.items()])


def _check_calibration(conf: Conf) -> None:
    asked = conf.quantization
    blocks = {"quantization.calibration.dataloader": asked.calibration.dataloader}
    train = asked.train if asked.approach == "quant_aware_training" else None
    _all(
        [
            partial(_check_train, conf, "quantization.train", train),
            partial(_check_blocks, conf, blocks),
        ]
    )


def _check_pruning_train(conf: Conf) -> None:
    _check_train(conf, "pruning.train", None if conf.pruning is None else conf.pruning.train)


def _check_train(conf: Conf, key: str, train: TrainConf | None) -> None:
    if train is None:
        return
    from lpot_lightning.lpot.train_block import check_train  # which needs torch

    _all(
        [
            partial(check_train, train, where=f"{conf.source}: `{key}`"),
            partial(_check_blocks, conf, {f"{key}.dataloader": train.dataloader}),
        ]
    )


def _check_accuracy(conf: Conf) -> None:
    accuracy = _accuracy(conf)
    blocks = {"evaluation.accuracy.dataloader": accuracy.dataloader}
    _all([partial(_check_metric, conf), partial(_check_blocks, conf, blocks)])


def _check_metric(conf: Conf) -> None:
    asked = _accuracy(conf)
    if asked.metric is None and asked.postprocess is None:
        return
    from lpot_lightning.judging.measuring import check_measuring  # which needs torch

    try:
        check_measuring(asked, conf.tuning.accuracy_criterion.higher_is_better)
    except ConfError as error:
        raise ConfError(*(f"{conf.source}: {fault}" for fault in error.faults)) from error


def _check_timed_data(conf: Conf) -> None:
    timed = _performance(conf).dataloader
    key = "performance" if timed is not None else "accuracy"
    block = timed if timed is not None else _accuracy(conf).dataloader
    _check_blocks(conf, {f"evaluation.{key}.dataloader": block})


def _note_what_a_benchmark_cannot(conf: Conf) -> None:
    """Warn of what one mode, or this machine, cannot do: the rest of the conf is good."""
    places: dict[str, Callable[[], object]] = {
        "on this machine": lambda: cpu_shares(_performance(conf).configs),
        "with `mode='accuracy'`": lambda: _check_metric(conf),
    }
    for place, check in places.items():
        try:
            check()
        except ConfError as error:
            text = f"{conf.source}: not for `Benchmark` {place}: {error}"
            warnings.warn(text, UserWarning, stacklevel=2)


def _note_idle(conf: Conf) -> None:
    idle = what_has_no_effect(conf, ())
    if idle:
        text = f"{conf.source}: without effect for `Quantization`: {'; '.join(idle)}"
        warnings.warn(text, UserWarning, stacklevel=2)


def _all(checks: Iterable[Callable[[], None]]) -> None:
    """Make all checks, and raise one error of all faults."""
    faults: list[str] = []
    for check in checks:
        try:
            check()
        except ConfError as error:
            faults += error.faults
    if faults:
        raise ConfError(*faults)


def _accuracy(conf: Conf) -> AccuracyConf:
    found = conf.evaluation.accuracy if conf.evaluation is not None else None
    return found or AccuracyConf()


def _performance(conf: Conf) -> PerformanceConf:
    found = conf.evaluation.performance if conf.evaluation is not None else None
    return found or PerformanceConf()


def _callback(name: str) -> Check:
    return lambda conf: check_for_callback(conf, name)


READERS: dict[str, tuple[Check, ...]] = {
    "QuantizationCallback": (
        _callback("QuantizationCallback"),
        _check_strategy,
        _note_what_an_export_needs,
    ),
    "QATCallback": (_callback("QATCallback"), _check_strategy, _note_what_an_export_needs),
    "PruningCallback": (_callback("PruningCallback"), _note_what_an_export_needs),
    "Quantization": (
        check_for_quantization,
        _check_strategy,
        _check_calibration,
        _check_accuracy,
        _note_idle,
    ),
    "Pruning": (check_for_pruning, _check_pruning_train, _check_accuracy),
    "Benchmark": (
        lambda conf: check_for_timing(conf, None),
        lambda conf: check_for_judging(conf, ()),
        _check_timed_data,
        _note_what_a_benchmark_cannot,
    ),
}
"""Who reads a YAML, and what each checks."""
