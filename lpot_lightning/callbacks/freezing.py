"""When ranges and BatchNorm statistics stop changing while a model is trained for int8."""

from __future__ import annotations

from dataclasses import dataclass

from lightning.pytorch import LightningModule, Trainer
from torch.nn.modules.batchnorm import _BatchNorm

from lpot_lightning.errors import ConfError


@dataclass(frozen=True)
class FreezePlan:
    """From which epoch on, counted from 0, something is frozen; ``None`` is never.

    Args:
        batch_norm: statistics of BatchNorm.
        observers: ranges of activations.
    """

    batch_norm: int | None
    observers: int | None

    @staticmethod
    def of(trainer: Trainer, batch_norm: int | None, observers: int | None) -> FreezePlan:
        """Return the plan that was asked for, with a default where nothing was.

        That is half of the epochs for BatchNorm and three quarters for ranges: what the weights
        are rounded by is settled first, and the weights have time to follow. Without a
        ``max_epochs``, or with one epoch, nothing is frozen.

        Raises:
            ConfError: if an epoch is asked for that this Trainer does not reach.
        """
        most = trainer.max_epochs if trainer.max_epochs not in (None, -1) else None
        for name, epoch in (("freeze_batch_norm", batch_norm), ("freeze_observers", observers)):
            if epoch is not None and most is not None and epoch >= most:
                raise ConfError(
                    f"`{name}` is {epoch}, and `max_epochs` is {most}: the epochs are 0 to"
                    f" {most - 1}, so nothing would be frozen; train longer, freeze earlier, or"
                    " leave it out for the default"
                )
        if most is None or most < 2:
            return FreezePlan(batch_norm, observers)
        return FreezePlan(
            (most + 1) // 2 if batch_norm is None else batch_norm,
            max(1, most * 3 // 4) if observers is None else observers,
        )

    def freezes_batch_norm(self, epoch: int) -> bool:
        """Whether the statistics of BatchNorm stay as they are in ``epoch``."""
        return self.batch_norm is not None and epoch >= self.batch_norm

    def freezes_observers(self, epoch: int) -> bool:
        """Whether the ranges of activations stay as they are in ``epoch``."""
        return self.observers is not None and epoch >= self.observers


def has_batch_norm(module: LightningModule) -> bool:
    """Whether there are statistics to be frozen."""
    return any(isinstance(one, _BatchNorm) for one in module.modules())


class BatchNorms:
    """Freezes the BatchNorm layers of a module that is in training mode, and lets them go again."""

    def __init__(self) -> None:
        self._frozen: list[_BatchNorm] = []

    def freeze(self, module: LightningModule) -> None:
        """Put those into eval mode that learn; those that the user froze are left alone."""
        for norm in module.modules():
            if isinstance(norm, _BatchNorm) and norm.training and norm.track_running_stats:
                norm.training = False
                if norm not in self._frozen:
                    self._frozen.append(norm)

    def release(self) -> None:
        """Put those into training mode that ``freeze`` put out of it."""
        for norm in self._frozen:
            norm.training = True
        self._frozen = []
