"""What is obeyed in a Conf by a callback or by `Quantization`, and what is left to others."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator

from lpot_lightning.conf.blocks import TrainConf
from lpot_lightning.conf.schema import AccuracyConf, Conf, TuningConf
from lpot_lightning.errors import ConfError, did_you_mean

CALLBACKS = {
    "post_training_static_quant": "QuantizationCallback",
    "post_training_dynamic_quant": "QuantizationCallback",
    "quant_aware_training": "QATCallback",
    "pruning": "PruningCallback",
}
FALL_BACK = ("auto", "basic", "mse")
TRAIN_OWNERS = {
    "optimizer": "`configure_optimizers` of the LightningModule",
    "criterion": "the loss in `training_step` of the LightningModule",
    "dataloader": "the train dataloader of the `Trainer`",
    "start_epoch": "the checkpoint in `Trainer.fit(ckpt_path=...)`",
    "end_epoch": "`Trainer(max_epochs=...)`",
    "iteration": "`Trainer(limit_train_batches=...)`",
    "frequency": "`Trainer(check_val_every_n_epoch=...)`",
    "hostfile": "`Trainer(num_nodes=..., strategy='ddp')`",
}
CALIBRATION_OWNERS = {
    "QuantizationCallback": "`calib_dataloader()` of the module or the datamodule, else the train"
    " dataloader of the `Trainer`, or its validation dataloader with `calib='val'`",
    "QATCallback": "the training itself",
}
ACCURACY_OWNERS = {
    "metric": "the metric that `validation_step` logs, named by `monitor`",
    "dataloader": "the validation dataloader of the `Trainer`",
    "postprocess": "`validation_step` of the LightningModule",
    "configs": "the process and the threads of the `Trainer`",
}
NO_EXPORT = "`export`: call `export(path)` of the `result`"


def check_for_callback(conf: Conf, callback: str) -> None:
    """Check that a callback can do what a conf asks for; say what Lightning does in its place.

    What is left to Lightning is named in one warning.

    Args:
        conf: What ``read_conf`` returned.
        callback: ``QuantizationCallback``, ``QATCallback`` or ``PruningCallback``.

    Raises:
        ConfError: If the conf is for another callback, which is named.

    Example::

        conf = read_conf("ptq.yaml")
        check_for_callback(conf, "QuantizationCallback")
    """
    if callback not in CALLBACKS.values():
        known = tuple(CALLBACKS.values())
        raise ValueError(f"no callback is called `{callback}`.{did_you_mean(callback, known)}")
    _check_kind(conf, callback)
    if callback == "QuantizationCallback":
        _check_no_train(conf)
    if callback == "QATCallback":
        _check_training(conf)
    remarks = list(_remarks(conf, callback))
    if remarks:
        text = f"{conf.source}: `{callback}` leaves this to others: {'; '.join(remarks)}."
        warnings.warn(text, UserWarning, stacklevel=2)


def check_for_quantization(conf: Conf) -> None:
    """Check that ``Quantization``, which needs no Trainer, can do what a conf asks for.

    Args:
        conf: What ``read_conf`` returned.

    Raises:
        ConfError: If it asks for pruning alone, for a training in post-training quantization, or
            for a strategy that a training does not go with.

    Example::

        conf = read_conf("qat.yaml")
        check_for_quantization(conf)
    """
    if not conf.quantizes:
        pruner = CALLBACKS["pruning"]
        raise ConfError(
            f"{conf.source}: `pruning` is all that is asked for, and `Quantization` does not "
            f"prune; use `Pruning`, or `{pruner}` in a Trainer."
        )
    if conf.quantization.approach == "quant_aware_training":
        _check_training(conf)
    else:
        _check_no_train(conf)


def check_for_pruning(conf: Conf) -> None:
    """Check that ``Pruning``, which needs no Trainer, can do what a conf asks for.

    Args:
        conf: What ``read_conf`` returned.

    Raises:
        ConfError: If it does not ask for pruning.
    """
    if conf.pruning is None:
        raise ConfError(f"{conf.source}: there is no `pruning` for `Pruning`; use `Quantization`.")
    if conf.export is not None:
        text = f"{conf.source}: without effect for `Pruning`: {NO_EXPORT}."
        warnings.warn(text, UserWarning, stacklevel=2)


def what_arguments_replace(conf: Conf, given: Collection[str]) -> list[str]:
    """Return the keys of a conf that have no effect beside loaders and functions of the user's.

    Args:
        conf: What ``read_conf`` returned.
        given: Of ``q_dataloader``, ``q_func``, ``eval_dataloader``, ``eval_func`` and ``metric``
            those that are given.

    Example::

        what_arguments_replace(conf, ["eval_func"])  # ["evaluation.accuracy.metric", …]
    """
    return [key for key, value in _replaced(conf, given) if value not in (None, -1)]


def _replaced(conf: Conf, given: Collection[str]) -> Iterator[tuple[str, object]]:
    quantization = conf.quantization
    if "q_func" in given:
        yield "quantization.train", quantization.train
    elif "q_dataloader" in given and quantization.train is not None:
        yield "quantization.train.dataloader", quantization.train.dataloader
    if "q_dataloader" in given:
        yield "quantization.calibration.dataloader", quantization.calibration.dataloader
    accuracy = conf.evaluation.accuracy if conf.evaluation is not None else None
    if accuracy is None:
        return
    by = {"metric": "metric", "dataloader": "eval_dataloader"}
    for key in (*ACCURACY_OWNERS, "iteration"):
        if "eval_func" in given or by.get(key) in given:
            yield f"evaluation.accuracy.{key}", getattr(accuracy, key)


def what_has_no_effect(conf: Conf, given: Collection[str]) -> list[str]:
    """Return the keys of a conf that change nothing without a Trainer, each with the reason.

    Args:
        conf: What ``read_conf`` returned.
        given: See ``what_arguments_replace``.

    Example::

        what_has_no_effect(conf, [])  # ["`evaluation.accuracy.configs`: …", …]
    """
    remarks = []
    accuracy = conf.evaluation.accuracy if conf.evaluation is not None else None
    if accuracy is not None and accuracy.configs is not None and "eval_func" not in given:
        remarks.append("`evaluation.accuracy.configs`: threads and processes change no accuracy")
    train = conf.quantization.train
    if train is not None and "q_func" not in given:
        if train.frequency is not None:
            remarks.append("`quantization.train.frequency`: nothing is judged while it trains")
        if train.hostfile is not None:
            remarks.append("`quantization.train.hostfile`: this process trains alone")
    if conf.export is not None:
        remarks.append(NO_EXPORT)
    return remarks


def _check_kind(conf: Conf, callback: str) -> None:
    pruner = CALLBACKS["pruning"]
    if callback == pruner and conf.pruning is None:
        right = CALLBACKS[conf.quantization.approach]
        raise ConfError(f"{conf.source}: there is no `pruning` for `{pruner}`; use `{right}`.")
    if callback != pruner and not conf.quantizes:
        raise ConfError(f"{conf.source}: `pruning` is all that is asked for; use `{pruner}`.")
    approach = conf.quantization.approach
    if callback not in (pruner, CALLBACKS[approach]):
        raise ConfError(
            f"{conf.source}: `quantization.approach` is `{approach}`, which is not "
            f"what `{callback}` does; use `{CALLBACKS[approach]}`."
        )


def _check_no_train(conf: Conf) -> None:
    if conf.quantization.train is not None:
        raise ConfError(
            f"{conf.source}: `quantization.train` is given, and "
            "`post_training_static_quant` does not train; leave it out, or set "
            "`quantization.approach` to `quant_aware_training`."
        )


def _check_training(conf: Conf) -> None:
    name = conf.tuning.strategy.name
    if name not in FALL_BACK:
        raise ConfError(
            f"{conf.source}: `tuning.strategy.name` is `{name}`, which tries settings of int8, and "
            "a model that was trained for int8 has one; allowed: "
            f"{', '.join(f'`{one}`' for one in FALL_BACK)}: they begin with all ops in int8, and "
            "if that is not enough let single ones fall back to fp32."
        )


def _remarks(conf: Conf, callback: str) -> Iterator[str]:
    if callback == "QATCallback":
        yield from _train(conf.quantization.train, "quantization.train")
    if callback in CALIBRATION_OWNERS and conf.quantization.calibration.dataloader is not None:
        yield f"`quantization.calibration.dataloader` is given by {CALIBRATION_OWNERS[callback]}"
    if callback == "PruningCallback" and conf.pruning is not None:
        yield from _train(conf.pruning.train, "pruning.train")
    if callback == "PruningCallback" and not conf.quantizes:
        yield from _search(conf.tuning, callback)
    if conf.export is not None:
        yield "`export` is done by an `ExportCallback`: take both from `callbacks_from_conf`"
    if conf.evaluation is not None:
        yield from _accuracy(conf.evaluation.accuracy)
        if conf.evaluation.performance is not None:
            yield "`evaluation.performance` is for `Benchmark`, and carried into `deploy.yaml`"


def _train(train: TrainConf | None, key: str) -> Iterator[str]:
    if train is None:
        return
    for name, owner in TRAIN_OWNERS.items():
        if getattr(train, name) not in (None, 0):
            yield f"`{key}.{name}` is given by {owner}"


def _search(tuning: TuningConf, callback: str) -> Iterator[str]:
    usual = TuningConf()
    for name in ("strategy", "objective", "exit_policy"):
        if getattr(tuning, name) != getattr(usual, name):
            yield f"`tuning.{name}` is for a search, and `{callback}` trains one model"


def _accuracy(accuracy: AccuracyConf | None) -> Iterator[str]:
    if accuracy is None:
        return
    for name, owner in ACCURACY_OWNERS.items():
        if getattr(accuracy, name) is not None:
            yield f"`evaluation.accuracy.{name}` is given by {owner}"
