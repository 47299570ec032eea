"""A `train` block."""

from __future__ import annotations

from lpot_lightning.conf.blocks import NOT_NEGATIVE, NamedConf, TrainConf
from lpot_lightning.conf.cursor import Field, read_into
from lpot_lightning.conf.dataloader import read_dataloader
from lpot_lightning.conf.named import Table, flag, need, number, read_named

OPTIMIZERS: Table = {
    "SGD": {
        "learning_rate": need(number(NOT_NEGATIVE)),
        "momentum": number(NOT_NEGATIVE),
        "nesterov": flag,
        "weight_decay": number(NOT_NEGATIVE),
    },
}
REDUCTIONS = ("mean", "sum", "none")


def read_train(field: Field) -> TrainConf:
    """Read ``quantization.train`` or ``pruning.train``."""
    part = field.section(TrainConf)
    train = read_into(
        TrainConf, part, optimizer=_optimizer, criterion=_criterion, dataloader=read_dataloader
    )
    if train.end_epoch is not None and train.end_epoch < train.start_epoch:
        raise part["end_epoch"].error(f"is before `start_epoch`, which is `{train.start_epoch}`.")
    return train


def _optimizer(field: Field) -> NamedConf:
    instead = "another optimizer belongs into `configure_optimizers`"
    return read_named(field, OPTIMIZERS, {}, instead)


def _criterion(field: Field) -> NamedConf:
    instead = "another loss belongs into `training_step`"
    criteria: Table = {"CrossEntropyLoss": {"reduction": _reduction}}
    return read_named(field, criteria, {}, instead)


def _reduction(field: Field) -> str:
    if field.value == "None":
        field.note("is the text `None`, as in LPOT's templates, and taken as `mean`")
        return "mean"
    return field.text("mean", REDUCTIONS)
