"""When ranges and BatchNorm statistics stop changing while a model is trained for int8."""

from __future__ import annotations

from dataclasses import dataclass

from lightning.pytorch import LightningModule
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
    def of(
        most: int | None, first: int, batch_norm: int | None, observers: int | None
    ) -> FreezePlan:
        """Return the plan that was asked for, with a default where nothing was.

        That is half of the epochs for BatchNorm and three quarters for ranges: what the weights
        are rounded by is settled first, and the weights have time to follow. Without a number of
        epochs, or with one, nothing is frozen.

        Args:
            most: how many epochs there are; ``None`` or -1 for no limit.
            first: the first epoch of the training for int8.
            batch_norm: asked for, if anything was; so is ``observers``.

        Raises:
            ConfError: if an epoch is asked for that there is not, or that leaves nothing to learn.
        """
        epochs = 0 if most in (None, -1) else int(most or 0) - first
        for name, epoch in (("freeze_batch_norm", batch_norm), ("freeze_observers", observers)):
            if epoch is not None and most not in (None, -1) and epoch >= int(most or 0):
                raise ConfError(
                    f"`{name}` is {epoch}, and `max_epochs` is {most}: no epoch is left in which it"
                    " would be frozen; train longer, freeze earlier, or leave it out for the"
                    " default"
                )
        if observers is not None and observers <= first:
            raise ConfError(
                f"`freeze_observers` is {observers}, and the training for int8 begins with epoch"
                f" {first}: the ranges of activations would never be learned; take a later one, or"
                " leave it out for the default"
            )
        if epochs < 2:
            return FreezePlan(batch_norm, observers)
        return FreezePlan(
            first + (epochs + 1) // 2 if batch_norm is None else batch_norm,
            first + max(1, epochs * 3 // 4) if observers is None else observers,
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
