"""What the user gives to an imperative run besides its conf, and what the conf has for it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from lpot_lightning.conf.blocks import DataloaderConf
from lpot_lightning.conf.quantization import DYNAMIC
from lpot_lightning.conf.schema import AccuracyConf, Conf
from lpot_lightning.data.batches import CollectedCalls, collect
from lpot_lightning.data.block import ENDLESS, is_endless, loader_of
from lpot_lightning.data.meter import Meter
from lpot_lightning.errors import ConfError, DataError

Evaluate = Callable[[nn.Module], Any]
Train = Callable[[nn.Module], Any]
QAT = "quant_aware_training"
TRAINED_MODULE = "an `nn.Module` with its trained weights; load what is in a file first"


@dataclass(frozen=True, kw_only=True)
class Given:
    """Model, data and functions of one run, as they came; ``checked`` says what is wrong.

    Args:
        model: fp32, trained.
        q_dataloader: to calibrate on; in a training, to train on.
        q_func: trains a model.
        eval_dataloader: to judge on by a metric, and to calibrate on where there is nothing better.
        eval_func: judges a model.
        metric: judges on ``eval_dataloader``.
    """

    model: Any
    q_dataloader: Any = None
    q_func: Any = None
    eval_dataloader: Any = None
    eval_func: Any = None
    metric: Meter | None = None

    @property
    def names(self) -> frozenset[str]:
        """What of it is given."""
        return frozenset(one.name for one in fields(self) if getattr(self, one.name) is not None)

    def checked(self, conf: Conf) -> Given:
        """Return itself.

        Raises:
            ConfError: if something is missing, here and in ``conf``, of the wrong kind, or not
                asked for by ``conf``.
            DataError: if there is nothing to calibrate on.
        """
        check_model(self.model, "quantization")
        check_data_and_judge(self, conf, "quantization")
        if conf.quantization.approach == QAT:
            _check_q_func(self, conf)
        else:
            _check_post_training(self, conf)
        return self


@dataclass(frozen=True)
class LoaderWithOrigin:
    """A loader, where it comes from, and whether it never ends."""

    batches: Any
    origin: str
    endless: bool = False

    @property
    def most(self) -> int | None:
        """How many batches stand for all of them; ``None`` if they end."""
        return ENDLESS if self.endless else None

    def collected(self, size: int, seed: int) -> CollectedCalls:
        """Take whole batches until they hold ``size`` samples, as ``collect`` does."""
        return collect(self.batches, size, origin=self.origin, seed=seed)


def given_loader(loader: Any, origin: str) -> LoaderWithOrigin | None:
    """Return a loader of the user's, ``None`` where none is given."""
    return None if loader is None else LoaderWithOrigin(loader, origin)


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


def accuracy_of(conf: Conf) -> AccuracyConf:
    """Return ``evaluation.accuracy``, empty where a conf has none."""
    found = conf.evaluation.accuracy if conf.evaluation is not None else None
    return found or AccuracyConf()


def first_given(argument: Any, attribute: Any) -> Any:
    """Return the argument of a call, and the attribute where it is not given."""
    return attribute if argument is None else argument


def warn_of_what_is_left(
    conf: Conf, given: Given, keys: Iterable[str], idle: Iterable[str] = ()
) -> None:
    """Warn, where a class of LPOT is called, of what of ``conf`` the call leaves aside.

    Args:
        conf: names the file.
        given: to the call; its function may replace its metric.
        keys: of ``conf`` that are replaced.
        idle: has no effect, each with the reason.
    """
    replaced = [f"`{key}`" for key in keys]
    if given.eval_func is not None and given.metric is not None:
        replaced.append(f"the metric `{given.metric.name}`")
    for said, those in (
        ("the functions and loaders that are given replace ", ", ".join(replaced)),
        ("this has no effect here: ", "; ".join(idle)),
    ):
        if those:
            warnings.warn(f"{conf.source}: {said}{those}", UserWarning, stacklevel=3)


def check_kind(fits: bool, name: str, value: object, allowed: str) -> None:
    """Raise a ``ConfError`` that says what is ``allowed`` as ``name``, unless ``value`` fits."""
    if not fits:
        raise ConfError(f"`{name}` is a `{type(value).__name__}`; allowed: {allowed}")


def check_model(
    model: object, owner: str, kinds: Any = nn.Module, allowed: str = TRAINED_MODULE
) -> None:
    """Raise a ``ConfError`` if ``model`` is none of ``kinds``; ``owner`` is what it is given to."""
    if model is None:
        raise ConfError(
            f"there is no model: set it, `{owner}.model = model`, or give it to the call,"
            f" `{owner}(model)`"
        )
    check_kind(isinstance(model, kinds), "model", model, allowed)


def check_callable(name: str, value: object, does: str) -> None:
    """Raise a ``ConfError`` if ``value`` is no function of a model."""
    check_kind(callable(value), name, value, f"a function that takes a model and {does}")


def check_loader(name: str, value: object) -> None:
    """Raise a ``ConfError`` if ``value`` is neither ``None`` nor a loader."""
    check_kind(
        value is None or hasattr(value, "__iter__"),
        name,
        value,
        "a `DataLoader`, or anything else that gives batches in a `for` loop",
    )


def check_data_and_judge(given: Given, conf: Conf, owner: str) -> None:
    """Raise an error if there is nothing to judge models by, here and in ``conf``.

    Args:
        given: see there.
        conf: checked.
        owner: what they are given to, for people.

    Raises:
        ConfError: if there is no function and no metric, or a function or loader is none.
        DataError: if there is a metric, and no data to judge by it.
    """
    for name in ("q_dataloader", "eval_dataloader"):
        check_loader(name, getattr(given, name))
    if given.eval_func is not None:
        check_callable("eval_func", given.eval_func, "returns its accuracy")
        return
    asked = accuracy_of(conf)
    metric = given.metric is not None or asked.metric is not None
    data = given.eval_dataloader is not None or asked.dataloader is not None
    if metric and data:
        return
    by_metric = f"a metric, `evaluation.accuracy.metric` in the YAML or `{owner}.metric(name, cls)`"
    by_data = "an `eval_dataloader`, or `evaluation.accuracy.dataloader` in the YAML"
    if metric:
        raise DataError(f"there is a metric, and no data to judge by it: give {by_data}")
    if data:
        raise ConfError(
            f"there is no `eval_func` to judge by, and data without a metric: give {by_metric}"
        )
    raise ConfError(
        "there is no `eval_func` to judge by: give a function that takes a model and returns its"
        f" accuracy, one number; or give {by_metric}, and {by_data}"
    )


def _check_q_func(given: Given, conf: Conf) -> None:
    if given.q_func is not None:
        check_callable("q_func", given.q_func, "returns nothing")
        return
    train = conf.quantization.train
    if train is None:
        raise ConfError(
            f"`quantization.approach` is `{QAT}`, and there is no `q_func` to train by: give a"
            " function that takes a model and trains it, or `quantization.train` in the YAML"
        )
    calibration = conf.quantization.calibration.dataloader
    if given.q_dataloader is None and train.dataloader is None and calibration is None:
        raise DataError(
            f"{conf.source}: `quantization.train` has no data to train on: give a `q_dataloader`,"
            " set `calib_dataloader`, or give `quantization.train.dataloader`"
        )


def _check_post_training(given: Given, conf: Conf) -> None:
    asked = conf.quantization
    if given.q_func is not None:
        raise ConfError(
            f"there is a `q_func`, and `quantization.approach` is `{asked.approach}`, which does"
            f" not train: leave it out, or set `quantization.approach` to `{QAT}`"
        )
    loaders = [given.q_dataloader, asked.calibration.dataloader, given.eval_dataloader]
    if given.eval_func is None:
        loaders.append(accuracy_of(conf).dataloader)
    if all(one is None for one in loaders) and asked.approach != DYNAMIC:
        raise DataError(
            "there is no data to calibrate on: give a `q_dataloader`, set `calib_dataloader`, or"
            " give `quantization.calibration.dataloader` in the YAML; a batch is `(input, label)`,"
            f" or the input alone; `{DYNAMIC}` needs none"
        )
