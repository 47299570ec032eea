"""Data and metrics that the YAML names: the one place where a benchmark asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from lpot_lightning.conf.schema import AccuracyConf, Conf
from lpot_lightning.errors import ConfError, NotYetError


def loader_for(conf: Conf, section: str) -> Any:
    """Return the loader that ``evaluation`` names, for one of its sections.

    Args:
        conf: checked.
        section: ``"performance"``, for which the loader of ``accuracy`` does, too, or
            ``"accuracy"``.

    Raises:
        ConfError: if it names none.
        NotYetError: until data from the YAML are built.
    """
    parts = conf.evaluation
    order = ("performance", "accuracy") if section == "performance" else ("accuracy",)
    for name in order:
        part = getattr(parts, name) if parts is not None else None
        if part is not None and part.dataloader is not None:
            raise NotYetError(
                f"{conf.source}: `evaluation.{name}.dataloader` is not built yet: give a"
                " `b_dataloader`"
            )
    raise ConfError(
        "there is no data to show the model: give a `b_dataloader`, or a `b_func(model)` that"
        " brings its own; a batch is `(input, label)`, or the input alone"
    )


def judge_for(accuracy: AccuracyConf, loader: Any, source: str) -> Callable[[nn.Module], float]:
    """Return what computes the metric of ``evaluation.accuracy`` over ``loader``.

    Raises:
        NotYetError: until metrics from the YAML are built.
    """
    raise NotYetError(
        f"{source}: `evaluation.accuracy.metric` is not built yet: give a `b_func(model)` that"
        " returns the accuracy"
    )
