"""Whose weights are judged when a fit is over."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from lpot_lightning.errors import QuantizationError, in_short
from lpot_lightning.judging.protocols import Monitor
from lpot_lightning.pruning.masks import Masks
from lpot_lightning.trainer import checkpoint
from lpot_lightning.trainer.averaging import average_comes_first, without_average
from lpot_lightning.trainer.checkpoint import Choice
from lpot_lightning.trainer.weights import Weights


def chosen_weights(
    trainer: Trainer,
    module: LightningModule,
    choice: Choice,
    monitor: Monitor | None,
    masks: Masks | None,
    doing: str,
) -> Weights:
    """Return the weights that are taken, and say which.

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
        return Weights()
    weights, why = (Weights.of(path), "") if masks is None else _masked(path, masks)
    if why:
        rank_zero_info(f"`{path}` {why}: {doing} the current weights")
        return Weights()
    if without_average(trainer, module, weights):
        if average_comes_first(callbacks, choice, monitor):
            rank_zero_info(
                f"`{path}` is from before the weights were averaged: {doing} the current,"
                " averaged ones"
            )
            return Weights()
        rank_zero_info(
            f"`{path}` is from before the weights were averaged; for the averaged ones:"
            " `ckpt='current'`"
        )
    rank_zero_info(f"{doing} the weights of `{path}`")
    return weights


def _masked(path: str, masks: Masks) -> tuple[Weights, str]:
    """Return the weights of a checkpoint, and why they are not those of the pruned model, if so."""
    try:
        weights = Weights.of(path)
    except QuantizationError as error:  # a training is not lost for it
        why = f"cannot be read with `weights_only=True` ({in_short(error.__cause__ or error)})"
        return Weights(), why
    held = masks.hold_in(weights.state)
    return weights, "" if held else "is from before the target sparsity was reached"
