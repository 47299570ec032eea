"""How long a fit is, as far as it is known before its first batch."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isinf

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from lpot_lightning.trainer.package import either


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long a fit is; ``None`` is no limit, or not known.

    Steps are counted as ``Trainer(max_steps=...)`` counts them: ``trainer.global_step``.

    Args:
        epoch: the one that the fit begins, or goes on, with.
        step: how many steps were made before.
        max_epochs: of the trainer; so is ``max_steps``.
        max_steps: see above.
        per_epoch: steps that an epoch makes.
        within: how many of them were made before, where the fit goes on within an epoch.
        is_endless: whether data have no length, so that an epoch may never end.
    """

    epoch: int
    step: int
    max_epochs: int | None
    max_steps: int | None
    per_epoch: int | None
    within: int
    is_endless: bool

    @staticmethod
    def unseen(trainer: Trainer) -> Length:
        """Return what is known before there are data; checkpoints may change the beginning."""
        return Length(
            epoch=0,
            step=0,
            max_epochs=limit(trainer.max_epochs),
            max_steps=limit(trainer.max_steps),
            per_epoch=None,
            within=0,
            is_endless=False,
        )

    @staticmethod
    def of(trainer: Trainer, module: LightningModule, batch: int = 0) -> Length:
        """Return what is known when an epoch begins, or goes on with this batch of it."""
        per_epoch = _steps_of_an_epoch(trainer, module)
        return Length(
            epoch=trainer.current_epoch,
            step=trainer.global_step,
            max_epochs=limit(trainer.max_epochs),
            max_steps=limit(trainer.max_steps),
            per_epoch=per_epoch,
            within=batch // trainer.accumulate_grad_batches,
            is_endless=isinf(trainer.num_training_batches),
        )

    def first_step_of(self, epoch: int) -> int | None:
        """Return how many steps are made when ``epoch`` begins."""
        if self.per_epoch is None:
            return None
        return self.step - self.within + (epoch - self.epoch) * self.per_epoch

    @property
    def steps(self) -> int | None:
        """How many steps are made when the fit ends."""
        by_epochs = None if self.max_epochs is None else self.first_step_of(self.max_epochs)
        return min((n for n in (self.max_steps, by_epochs) if n is not None), default=None)


def limit(most: int | None) -> int | None:
    """Return a limit of a trainer; ``None`` if there is none."""
    return None if most is None or most < 0 else most


def _steps_of_an_epoch(trainer: Trainer, module: LightningModule) -> int | None:
    """Return how many steps an epoch makes, where data and accumulation stay what they are."""
    batches = trainer.num_training_batches
    accumulates = trainer.callbacks  # type: ignore[attr-defined]
    if (
        not module.automatic_optimization
        or isinf(batches)
        or trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]
        or any(isinstance(one, either(GradientAccumulationScheduler)) for one in accumulates)
    ):
        return None
    return ceil(batches / trainer.accumulate_grad_batches)
