"""What a pruning refuses of a Trainer."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch import Trainer

from lpot_lightning.callbacks.length import Length, limit
from lpot_lightning.conf.schema import ENDS, PrunerConf, Unit
from lpot_lightning.errors import ConfError, PruningError, quoted
from lpot_lightning.pruning.model_pruner import schedule_of
from lpot_lightning.pruning.schedule import Schedule
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


def check_limits(trainer: Trainer, pruners: Sequence[PrunerConf]) -> None:
    """Raise a ``ConfError`` if `max_epochs` or `max_steps` is before the end of a schedule."""
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    limits: dict[Unit, int | None] = {"epoch": trainer.max_epochs, "step": trainer.max_steps}
    for unit, given in limits.items():
        last, most = last_of(_schedules(pruners), unit), limit(given)
        if last is not None and most is not None and most <= last:
            raise ConfError(
                f"`end_{unit}` is {last}, counted from 0, and the Trainer stops after {most}"
                f" {unit}s: the target would not be trained with. Give it"
                f" `max_{unit}s={last + 1}` or more, or let `end_{unit}` be earlier"
            )


def check_length(length: Length, schedules: Sequence[Schedule]) -> None:
    """Raise a ``ConfError`` if a fit of this length ends before the end of one of ``schedules``."""
    last, end = last_of(schedules, "step"), length.steps
    if last is not None and end is not None and end <= last:
        raise ConfError(
            f"`end_step` is {last}, counted from 0, and the Trainer stops after {end} steps,"
            f" {length.per_epoch} an epoch: the target would not be trained with. Train longer, or"
            " let `end_step` be earlier"
        )
    last = last_of(schedules, "epoch")
    if last is not None and last > length.epoch:
        _check_epochs(length, last)


def _check_epochs(length: Length, last: int) -> None:
    """Refuse a last epoch that ``max_steps`` leaves no time for."""
    ways = "or count steps: `start_step` and `end_step` in place of `start_epoch` and `end_epoch`"
    if length.is_endless and length.max_epochs is None and length.max_steps is not None:
        raise ConfError(
            f"`end_epoch` is {last}, and the training data have no length: the schedule counts"
            f" epochs, and `max_steps={length.max_steps}` may end the fit in its first one. Say by"
            f" `limit_train_batches` how many batches an epoch has, {ways}"
        )
    first = length.first_step_of(last)
    if first is not None and length.max_steps is not None and length.max_steps <= first:
        raise ConfError(
            f"`end_epoch` is {last}, counted from 0, which begins after {first} steps,"
            f" {length.per_epoch} an epoch, and the Trainer stops after {length.max_steps}: the"
            f" target would not be trained with. Give it `max_steps={first + 1}` or more, let"
            f" `end_epoch` be earlier, {ways}"
        )


def check_first(unit: Unit, at: int, pruners: Sequence[PrunerConf]) -> None:
    """Raise a ``ConfError`` if the first epoch or step that prunes is after a schedule's end."""
    late = [one for one in _schedules(pruners) if one.unit == unit and one.end < at]
    if late:
        raise ConfError(
            f"the fit goes on in {unit} {at} with a model that was not pruned before, and"
            f" `end_{unit}` is {late[0].end}: all would go at once. Count `start_{unit}` and"
            f" `end_{unit}` from where the fit goes on, {at} or later"
        )


def ended_early(
    trainer: Trainer, unreached: Sequence[Schedule], sparsity: float, awaited: Sequence[str] = ()
) -> str:
    """Return what is told of a training that ended before the target.

    Args:
        trainer: that trained.
        unreached: the schedules that did not come to their target.
        sparsity: the share of zeros in the weights to prune.
        awaited: the weights whose gradients were waited for.
    """
    last = {unit: last_of(unreached, unit) for unit in ENDS}
    now: dict[Unit, str] = {
        "epoch": f"in epoch {max(0, trainer.current_epoch - 1)}",  # counted on
        "step": f"after {trainer.global_step} steps",
    }
    ended = ", ".join(now[unit] for unit in ENDS if last[unit] is not None)
    reached = " and ".join(f"{unit} {end}" for unit, end in last.items() if end is not None)
    causes = "`EarlyStopping`, `max_steps`, `max_time`"
    if last["step"] is not None:
        causes += ", `max_epochs`"  # whose steps are not known before, where accumulation changes
    if last["step"] is not None and not trainer.global_step:
        causes += "; and count steps: those of `optimizers(use_pl_optimizer=False)` are not counted"
    ends = f"Look at what ends the training: {causes}"
    if awaited:
        ends = (
            f"No step gave {quoted(awaited, 3)} a gradient, which `gradient_sensitivity` needs: it"
            " is frozen, or the loss does not depend on it; exclude it by `excluded_names`"
        )
    return (
        f"the training ended {ended} with {sparsity:.1%} of the weights to prune at zero; the"
        f" target is reached in {reached}. {ends}"
    )


def last_of(schedules: Sequence[Schedule], unit: Unit) -> int | None:
    """Return the last end of those that count ``unit``; ``None`` if none does."""
    return max((one.end for one in schedules if one.unit == unit), default=None)


def _schedules(pruners: Sequence[PrunerConf]) -> list[Schedule]:
    return [schedule_of(one) for one in pruners if one.prune_type != "pattern_lock"]
