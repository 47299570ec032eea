"""The weights that a run takes: those of a checkpoint, read once, or those in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from lightning.pytorch import LightningModule

from lpot_lightning.errors import QuantizationError
from lpot_lightning.module.stand_in import second_model
from lpot_lightning.trainer.checkpoint import read_checkpoint

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
        try:
            copied.load_state_dict(checkpoint["state_dict"], strict=copied.strict_loading)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise QuantizationError(
                f"`{self.path}` is not of this `{type(module).__name__}`: {reason}"
            ) from error
        return copied
