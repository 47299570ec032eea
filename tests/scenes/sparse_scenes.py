"""Fits that prune a small net, and what is looked at in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lit_scenes import Lit, conf, train_loader, trainer, val_loader
from torch import Tensor, nn

from lpot_lightning import PruningCallback

WEIGHTS = ("net.0.weight", "net.2.weight")
EPOCHS = 4
ARGUMENTS = ("monitor", "modules", "baseline", "wait_for_target")
GRADIENT = {"prune_type": "gradient_sensitivity"}
PLACE = "pruning.approach.weight_compression"


def pruning_conf(workspace: Path | str | None, *pruners: dict[str, Any], **given: Any) -> Any:
    """Return a YAML; a ``tuning`` section apart, ``given`` is what the pruners share."""
    tuning = given.pop("tuning", {})
    shared = {"target_sparsity": 0.5, "start_epoch": 0, "end_epoch": 2, **given}
    section = {"approach": {"weight_compression": {**shared, "pruners": list(pruners or ({},))}}}
    return conf(workspace, pruning=section, tuning=tuning)


def pruning(
    workspace: Path | str | None = None, *pruners: dict[str, Any], **given: Any
) -> PruningCallback:
    """Return a callback that halves all weights until epoch 2, unless other things are given."""
    arguments = {name: given.pop(name) for name in ARGUMENTS if name in given}
    return PruningCallback(pruning_conf(workspace, *pruners, **given), **arguments)


class Rolling(Lit):
    """Trains with a momentum that would bring pruned weights back."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__(lr)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)


class Double(Rolling):
    """Its data are of the type that its weights are."""

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0].to(self.dtype)), batch[1])


class ByHand(Rolling):
    """Makes its steps itself, several a batch, by the wrapped optimizer or the bare one."""

    def __init__(self, wrapped=True):
        super().__init__()
        self.automatic_optimization, self.wrapped = False, wrapped

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers(use_pl_optimizer=self.wrapped)
        for _ in range(2):
            optimizer.zero_grad()
            self.manual_backward(F.cross_entropy(self.net(batch[0]), batch[1]))
            optimizer.step()


class Twins(Rolling):
    """Two optimizers in turn, each of its own layer; gradients of the other one are stale."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        for optimizer in self.optimizers():
            self.toggle_optimizer(optimizer)
            optimizer.zero_grad()
            self.manual_backward(F.cross_entropy(self.net(batch[0]), batch[1]))
            optimizer.step()
            self.untoggle_optimizer(optimizer)

    def configure_optimizers(self):
        return [torch.optim.SGD(self.net[n].parameters(), lr=0.05, momentum=0.9) for n in (0, 2)]


def pruned(
    callback: PruningCallback,
    module: pl.LightningModule | None = None,
    *others: pl.Callback,
    first: tuple[pl.Callback, ...] = (),
    data: tuple[Any, ...] | None = None,
    ckpt_path: str | None = None,
    **given: Any,
) -> tuple[pl.Trainer, pl.LightningModule]:
    """Fit with ``callback`` between the callbacks ``first`` and ``others``."""
    module = Rolling() if module is None else module
    callbacks = [*first, callback, *others]
    saves = any(isinstance(one, Checkpoint) for one in callbacks)
    one = trainer(*callbacks, **{"max_epochs": EPOCHS, "enable_checkpointing": saves, **given})
    loaders = (train_loader(64), val_loader(24)) if data is None else data
    one.fit(module, *loaders, ckpt_path=ckpt_path)
    return one, module


def checkpoints(folder: Path, **given: Any) -> ModelCheckpoint:
    return ModelCheckpoint(folder, **{"save_last": True, "save_top_k": -1, **given})


class StopsAfter(pl.Callback):
    """Ends a fit after some steps, which nobody knows before."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = trainer.should_stop or trainer.global_step == self._steps


class Seen(pl.Callback):
    """Takes the weights down after each batch, and at the start of each validation."""

    def __init__(self) -> None:
        self.batches: list[dict[str, Tensor]] = []
        self.validated: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer, module, *_):
        self.batches.append(weights_in(module))

    def on_validation_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
        if batch_idx == 0:
            self.validated.append(weights_in(module))


def weights_in(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of the weights that pruners take by default, tied ones once."""
    named = {name: value for name, value in model.named_parameters() if value.dim() > 1}
    return {name: value.detach().clone() for name, value in named.items()}


def zeros(weights: nn.Module | dict[str, Tensor]) -> dict[str, float]:
    """Return the share of zeros of each weight of a model, or of a ``state_dict``."""
    if isinstance(weights, nn.Module):
        weights = weights_in(weights)
    weights = {name: value for name, value in weights.items() if value.dim() > 1}
    return {name: float((value == 0).float().mean()) for name, value in weights.items()}


def halved(weights: nn.Module | dict[str, Tensor]) -> bool:
    """Return whether half of each weight is zero, to the one that rounding makes."""
    return all(abs(share - 0.5) < 0.05 for share in zeros(weights).values())


def state_in(path: Path | str) -> dict[str, Any]:
    """Return what the callback put into a checkpoint."""
    return torch.load(path, weights_only=True)["callbacks"]["PruningCallback"]


def weights_at(path: Path | str) -> dict[str, Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]
