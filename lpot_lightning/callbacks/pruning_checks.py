"""What a pruning refuses of a Trainer."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch import Trainer

from lpot_lightning.conf.schema import PrunerConf
from lpot_lightning.errors import ConfError, PruningError
from lpot_lightning.pruning.model_pruner import schedule_of
from lpot_lightning.trainer.checks import check_logging, keeps_whole


def check_pruning_trainer(trainer: Trainer) -> None:
    """Refuse a trainer that logs nothing, or has no process with the whole model.

    Raises:
        EvaluationError: if it logs nothing.
        PruningError: if it keeps the model in pieces.
    """
    check_logging(trainer)
    if not keeps_whole(trainer):
        raise PruningError(
            f"`{type(trainer.strategy).__name__}` keeps the weights in pieces, or elsewhere,"
            " and pruning ranks the whole of them: train with one device, or with `ddp`"
        )


def last_epoch(pruners: Sequence[PrunerConf]) -> int:
    """Return the epoch that begins with all targets reached."""
    return max(schedule_of(one).end_epoch for one in pruners)


def check_epochs(trainer: Trainer, pruners: Sequence[PrunerConf]) -> None:
    """Raise a ``ConfError`` if a fit ends before the last target is reached."""
    last = last_epoch(pruners)
    most: int | None = trainer.max_epochs
    quick: int = trainer.fast_dev_run  # type: ignore[attr-defined]
    if not quick and most is not None and 0 <= most <= last:
        raise ConfError(
            f"`end_epoch` is {last}, counted from 0, and the Trainer stops after {most} epochs:"
            f" the target would not be trained with. Give it `max_epochs={last + 1}` or more,"
            " or let `end_epoch` be earlier"
        )


def check_first(epoch: int, pruners: Sequence[PrunerConf]) -> None:
    """Raise a ``ConfError`` if ``epoch``, the first that prunes, is after the end of a schedule."""
    ends = [schedule_of(one).end_epoch for one in pruners if one.prune_type != "pattern_lock"]
    late = [end for end in ends if end < epoch]
    if late:
        raise ConfError(
            f"the fit goes on in epoch {epoch} with a model that was not pruned before, and"
            f" `end_epoch` is {late[0]}: all would go at once. Count `start_epoch` and"
            f" `end_epoch` from where the fit goes on, {epoch} or later"
        )
