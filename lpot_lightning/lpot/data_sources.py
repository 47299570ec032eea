"""What a quantization without a Trainer works with, from what is given and from the conf."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from torch import nn

from lpot_lightning.conf.schema import Conf
from lpot_lightning.lpot.given import (
    QAT,
    Given,
    LoaderWithOrigin,
    Train,
    block_loader,
    given_loader,
)
from lpot_lightning.lpot.plain_judge import ModelJudge, eval_loader_of, judge_of
from lpot_lightning.lpot.train_block import train_loop_of

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sources:
    """All that a run works with.

    Args:
        model: fp32, as the user gave it.
        data: to show models.
        q_func: trains a model, where one is to be trained.
        judge: says how good a model is.
    """

    model: nn.Module
    data: LoaderWithOrigin | None
    q_func: Train | None
    judge: ModelJudge


def sources_of(given: Given, conf: Conf) -> Sources:
    """Return what a run works with: what is given, and from the conf what is not.

    Args:
        given: checked.
        conf: checked.

    Raises:
        LpotError: if what the conf names cannot be made.
    """
    trains = conf.quantization.approach == QAT
    own = given.eval_func is not None and given.eval_dataloader is None
    judged = None if own else eval_loader_of(given, conf)
    calibrated = _to_calibrate(given, conf)
    trained = _to_train(given, conf) if trains else None
    data = calibrated or trained or judged
    if calibrated is None and not trains and data is not None:
        _LOG.info("there is no calibration dataloader: calibrating on %s", data.origin)
    q_func = given.q_func
    if q_func is None and trains:
        q_func = _training(conf, calibrated if given.q_dataloader is not None else trained or data)
    return Sources(given.model, data, q_func, judge_of(given, conf, judged))


def _to_calibrate(given: Given, conf: Conf) -> LoaderWithOrigin | None:
    block = conf.quantization.calibration.dataloader
    found = given_loader(given.q_dataloader, "the calibration dataloader")
    return found or block_loader(conf, "quantization.calibration.dataloader", block)


def _to_train(given: Given, conf: Conf) -> LoaderWithOrigin | None:
    train = conf.quantization.train
    if train is None or given.q_func is not None or given.q_dataloader is not None:
        return None
    return block_loader(conf, "quantization.train.dataloader", train.dataloader)


def _training(conf: Conf, loader: LoaderWithOrigin | None) -> Train:
    train = conf.quantization.train
    assert train is not None  # it is checked
    assert loader is not None
    return train_loop_of(train, loader, where=f"{conf.source}: `quantization.train`")
