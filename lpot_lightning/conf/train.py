"""A `train` block."""

from __future__ import annotations

from lpot_lightning.conf.blocks import NamedConf, TrainConf
from lpot_lightning.conf.cursor import COUNT, NOT_NEGATIVE, Field
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


def read_train(field: Field) -> TrainConf | None:
    """Read ``quantization.train`` or ``pruning.train``."""
    if not field.given:
        return None
    part = field.section(
        "optimizer",
        "criterion",
        "dataloader",
        "start_epoch",
        "end_epoch",
        "iteration",
        "frequency",
        "hostfile",
    )
    start, end = part["start_epoch"].integer(0, NOT_NEGATIVE), part["end_epoch"]
    if end.given and end.integer(0, NOT_NEGATIVE) < start:
        raise end.error(f"is before `start_epoch`, which is `{start}`.")
    return TrainConf(
        optimizer=_optimizer(part["optimizer"]),
        criterion=_criterion(part["criterion"]),
        dataloader=read_dataloader(part["dataloader"]),
        start_epoch=start,
        end_epoch=end.integer(None, NOT_NEGATIVE),
        iteration=part["iteration"].integer(None, COUNT),
        frequency=part["frequency"].integer(None, COUNT),
        hostfile=part["hostfile"].text(None),
    )


def _optimizer(field: Field) -> NamedConf | None:
    instead = "another optimizer belongs into `configure_optimizers`"
    return read_named(field, OPTIMIZERS, {}, instead) if field.given else None


def _criterion(field: Field) -> NamedConf | None:
    instead = "another loss belongs into `training_step`"
    criteria: Table = {"CrossEntropyLoss": {"reduction": _reduction}}
    return read_named(field, criteria, {}, instead) if field.given else None


def _reduction(field: Field) -> str:
    if field.value == "None":
        field.note("is the text `None`, as in LPOT's templates, and taken as `mean`")
        return "mean"
    return field.text("mean", REDUCTIONS)
