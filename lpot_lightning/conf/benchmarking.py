"""What of a Conf has no effect on a benchmark."""

from __future__ import annotations

import warnings
from collections.abc import Collection

from lpot_lightning.conf.ownership import what_arguments_replace
from lpot_lightning.conf.schema import Conf

AS_FOR_A_SEARCH = {"b_dataloader": "eval_dataloader", "b_func": "eval_func", "metric": "metric"}


def check_for_timing(conf: Conf, data: str | None) -> None:
    """Say in one warning what of ``evaluation.performance`` has no effect on a benchmark.

    Args:
        conf: What ``read_conf`` returned.
        data: What gives the data in place of the conf, for people; ``None`` if nothing does.

    Example::

        check_for_timing(read_conf("deploy.yaml"), "the `b_dataloader` given")
    """
    asked = conf.evaluation.performance if conf.evaluation is not None else None
    remarks = []
    if asked is not None and asked.dataloader is not None and data is not None:
        remarks.append(f"`evaluation.performance.dataloader` is replaced by {data}")
    if asked is not None and asked.postprocess is not None:
        remarks.append("`evaluation.performance.postprocess` changes outputs, which nobody times")
    _warn(conf, remarks)


def check_for_judging(conf: Conf, given: Collection[str]) -> None:
    """Say in one warning what of ``evaluation.accuracy`` has no effect on a benchmark.

    Args:
        conf: What ``read_conf`` returned.
        given: Of ``b_dataloader``, ``b_func`` and ``metric`` those that are given.

    Example::

        check_for_judging(read_conf("deploy.yaml"), ["b_dataloader"])
    """
    remarks = [
        f"`{key}` is replaced by the `{name}`"
        for name in sorted(given)
        for key in what_arguments_replace(conf, [AS_FOR_A_SEARCH[name]])
    ]
    accuracy = conf.evaluation.accuracy if conf.evaluation is not None else None
    if accuracy is not None and accuracy.configs is not None and "b_func" not in given:
        remarks.append("`evaluation.accuracy.configs`: threads and processes change no accuracy")
    _warn(conf, remarks)


def _warn(conf: Conf, remarks: Collection[str]) -> None:
    if remarks:
        text = f"{conf.source}: without effect on a benchmark: {'; '.join(remarks)}."
        warnings.warn(text, UserWarning, stacklevel=4)
