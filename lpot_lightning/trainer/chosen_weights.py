"""Whose weights are judged when a fit is over."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from lpot_lightning.errors import QuantizationError, in_short
from lpot_lightning.pruning.masks import Masks
from lpot_lightning.trainer import checkpoint
from lpot_lightning.trainer.averaging import average_comes_first, without_average
from lpot_lightning.trainer.checkpoint import Choice
from lpot_lightning.trainer.monitor import Monitor


def chosen_weights(
    trainer: Trainer,
    module: LightningModule,
    choice: Choice,
    monitor: Monitor | None,
    masks: Masks | None,
    doing: str,
) -> str:
    """Return the path of the checkpoint that is taken, ``""`` for the current weights; say which.

    Args:
        choice: what is asked for.
        monitor: what models are judged by, where it is known: of several checkpoints it tells
            which is the best.
        masks: where the model was pruned; a checkpoint from before that is not taken.
        doing: what is done with them, for people.
    """
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    path = checkpoint.saved_weights(callbacks, choice, monitor)
    if not path:
        if choice != "current":
            kept = checkpoint.keeper_of(callbacks, monitor) is not None
            why = f"no {choice} checkpoint was saved" if kept else "there is no ModelCheckpoint"
            rank_zero_info(f"{why}: {doing} the current weights")
        return ""
    if masks is not None and (why := _why_not(path, masks)):
        rank_zero_info(f"`{path}` {why}: {doing} the current weights")
        return ""
    if without_average(trainer, module, path):
        if average_comes_first(callbacks, choice, monitor):
            rank_zero_info(
                f"`{path}` is from before the weights were averaged: {doing} the current,"
                " averaged ones"
            )
            return ""
        rank_zero_info(
            f"`{path}` is from before the weights were averaged; for the averaged ones:"
            " `ckpt='current'`"
        )
    rank_zero_info(f"{doing} the weights of `{path}`")
    return path


def _why_not(path: str, masks: Masks) -> str:
    """Return why a checkpoint is not of the pruned model; ``""`` if it is."""
    try:
        state = checkpoint.read_checkpoint(path)["state_dict"]
    except QuantizationError as error:  # a training is not lost for it
        return f"cannot be read with `weights_only=True` ({in_short(error.__cause__ or error)})"
    return "" if masks.hold_in(state) else "is from before the target sparsity was reached"
