"""The weights that a run takes: those of a checkpoint, read once, or those in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from lpot_lightning.errors import QuantizationError, in_one_line, in_short
from lpot_lightning.judging.protocols import Monitor
from lpot_lightning.module.compiled_names import named_as
from lpot_lightning.module.copying import second_model
from lpot_lightning.pruning.masks import Masks
from lpot_lightning.trainer.checkpoint import read_checkpoint
from lpot_lightning.trainer.keepers import Choice, keeper_of, saved_weights, without_average

Module = TypeVar("Module", bound=LightningModule)


@dataclass(frozen=True)
class Weights:
    """Weights for copies of a module.

    Args:
        path: of the checkpoint, ``""`` for the current ones.
        checkpoint: what was read there, without the states of optimizers.

    Example::

        Weights.of("best.ckpt").model_of(module)
    """

    path: str = ""
    checkpoint: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, path: str) -> Weights:
        """Return the weights of the checkpoint at ``path``; of ``""`` the current ones.

        Raises:
            QuantizationError: if it cannot be read, or is no checkpoint.
        """
        if not path:
            return cls()
        found = read_checkpoint(path)
        if "optimizer_states" in found:
            found["optimizer_states"] = []  # twice as large as the weights, and of no use here
        return cls(path, found)

    @property
    def state(self) -> Mapping[str, Any]:
        """The ``state_dict`` of the checkpoint."""
        assert self.checkpoint is not None
        state: Mapping[str, Any] = self.checkpoint["state_dict"]
        return state

    def model_of(self, module: Module) -> Module:
        """Return a second model, with these weights.

        Raises:
            QuantizationError: if the module cannot be copied, or the checkpoint is not its own.
        """
        copied = second_model(module)
        if self.checkpoint is None:
            return copied
        checkpoint = {**self.checkpoint, "state_dict": dict(self.state)}  # a hook may change it
        copied.on_load_checkpoint(checkpoint)
        state = named_as(copied.state_dict(), checkpoint["state_dict"])
        try:
            copied.load_state_dict(state, strict=copied.strict_loading)
        except RuntimeError as error:
            reason = in_one_line(error)
            raise QuantizationError(
                f"`{self.path}` is not of this `{type(module).__name__}`: {reason}"
            ) from error
        return copied


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
    path, keeper = saved_weights(callbacks, choice, monitor), keeper_of(callbacks, monitor)
    if not path:
        if choice != "current":
            why = f"no {choice} checkpoint was saved" if keeper else "there is no ModelCheckpoint"
            rank_zero_info(f"{why}: {doing} the current weights")
        return Weights()
    weights, why = (Weights.of(path), "") if masks is None else _masked(path, masks)
    if why:
        rank_zero_info(f"`{path}` {why}: {doing} the current weights")
        return Weights()
    if without_average(trainer, module, weights.state):
        # without a monitor the best checkpoint is only the one that was saved last
        if choice == "best" and keeper is not None and keeper.monitor is None:
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
    return weights, "" if masks.hold_in(weights.state) else _why_not(weights, masks)


def _why_not(weights: Weights, masks: Masks) -> str:
    """Return why a checkpoint has not all the zeros of the pruned model."""
    callbacks = (weights.checkpoint or {}).get("callbacks") or {}
    states = [one["pruner"] for one in callbacks.values() if "pruner" in one]
    if any(masks.are(one.get("masks")) for one in states):
        return (
            "was pruned as far, and holds weights that the masks were not applied to, as an average"
            " of your own: `callback.masks.apply_to(average)` does it"
        )
    if states:
        return "is from before the target sparsity was reached"
    return "has no masks, and not all the zeros of the pruned model"
