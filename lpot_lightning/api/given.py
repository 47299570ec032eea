"""What the user gives to an imperative run besides its conf."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import ConfError, DataError, NotYetError

Evaluate = Callable[[nn.Module], Any]
Train = Callable[[nn.Module], Any]
QAT = "quant_aware_training"


@dataclass(frozen=True)
class Given:
    """Model, data and functions of one run, as they came; ``checked`` says what is wrong.

    Args:
        model: fp32, trained.
        q_dataloader: to calibrate on.
        q_func: trains a model.
        eval_dataloader: to calibrate on, where there is nothing better.
        eval_func: judges a model.
    """

    model: Any
    q_dataloader: Any
    q_func: Any
    eval_dataloader: Any
    eval_func: Any

    @property
    def data(self) -> tuple[Any, str] | None:
        """The loader to show models, and its name."""
        if self.q_dataloader is not None:
            return self.q_dataloader, "the calibration dataloader"
        if self.eval_dataloader is not None:
            return self.eval_dataloader, "`eval_dataloader`"
        return None

    def checked(self, conf: Conf) -> Given:
        """Return itself.

        Raises:
            ConfError: if something is missing, of the wrong kind, or not asked for by ``conf``.
            NotYetError: if ``conf`` gives in its place what is not built yet.
            DataError: if there is nothing to calibrate on.
        """
        _check_model(self.model)
        _check_eval_func(self, conf)
        for name in ("q_dataloader", "eval_dataloader"):
            _check_loader(name, getattr(self, name))
        if conf.quantization.approach == QAT:
            _check_q_func(self.q_func, conf)
        else:
            _check_post_training(self, conf)
        return self


def _check_model(model: object) -> None:
    if model is None:
        raise ConfError(
            "there is no model: set it, `quantization.model = model`, or give it to the call,"
            " `quantization(model)`"
        )
    if not isinstance(model, nn.Module):
        raise ConfError(
            f"`model` is a `{type(model).__name__}`; allowed: an `nn.Module` with its trained"
            " weights; load what is in a file first"
        )


def _check_eval_func(given: Given, conf: Conf) -> None:
    if given.eval_func is not None:
        _check_callable("eval_func", given.eval_func, "its accuracy")
        return
    accuracy = conf.evaluation.accuracy if conf.evaluation is not None else None
    asked = accuracy is not None and (accuracy.metric or accuracy.dataloader)
    if given.eval_dataloader is not None or asked:
        raise NotYetError(
            "there is no `eval_func`, and judging by `eval_dataloader` and the metric of"
            " `evaluation.accuracy` is not built yet: give an `eval_func(model)` that returns the"
            " accuracy"
        )
    raise ConfError(
        "there is no `eval_func` to judge by: give a function that takes a model and returns its"
        " accuracy, one number"
    )


def _check_q_func(q_func: object, conf: Conf) -> None:
    if q_func is not None:
        _check_callable("q_func", q_func, "nothing")
    elif conf.quantization.train is not None:
        raise NotYetError(
            f"{conf.source}: `quantization.train` is not built yet for `Quantization`: give a"
            " `q_func(model)` that trains the model"
        )
    else:
        raise ConfError(
            f"`quantization.approach` is `{QAT}`, and there is no `q_func` to train by: give a"
            " function that takes a model and trains it"
        )


def _check_post_training(given: Given, conf: Conf) -> None:
    asked = conf.quantization
    if given.q_func is not None:
        raise ConfError(
            f"there is a `q_func`, and `quantization.approach` is `{asked.approach}`, which does"
            f" not train: leave it out, or set `quantization.approach` to `{QAT}`"
        )
    if given.q_dataloader is None and asked.calibration.dataloader is not None:
        raise NotYetError(
            f"{conf.source}: `quantization.calibration.dataloader` is not built yet for"
            " `Quantization`: give a `q_dataloader`"
        )
    if given.data is None:
        raise DataError(
            "there is no data to calibrate on: give a `q_dataloader`, or set `calib_dataloader`; a"
            " batch is `(input, label)`, or the input alone"
        )


def _check_callable(name: str, value: object, returns: str) -> None:
    if not callable(value):
        raise ConfError(
            f"`{name}` is a `{type(value).__name__}`; allowed: a function that takes a model and"
            f" returns {returns}"
        )


def _check_loader(name: str, value: object) -> None:
    if value is not None and not hasattr(value, "__iter__"):
        raise ConfError(
            f"`{name}` is a `{type(value).__name__}`; allowed: a `DataLoader`, or anything else"
            " that gives batches in a `for` loop"
        )
