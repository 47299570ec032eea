"""LightningModules with frozen parts, and a callback that sees which layers round."""

from __future__ import annotations

import copy
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from lit_scenes import KINDS, WIDTH, Lit, small_net, train_loader, trainer, val_loader
from qat_scenes import qat
from torch import Tensor, nn

from lpot_lightning import QATCallback


class Rounding(pl.Callback):
    """Notes which modules round in each training batch, and what a probe comes to."""

    def __init__(self, probed: str = "") -> None:
        self.seen: list[set[str]] = []
        self.probed, self.answers, self.own = probed, [], []
        self.x = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(4))

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, index: int) -> None:
        modules = pl_module.named_modules()
        self.seen.append({path for path, one in modules if "forward" in vars(one) and path})
        if self.probed:
            probed = pl_module.get_submodule(self.probed)
            self.answers.append(probed(self.x))
            clean = copy.deepcopy(probed)
            for one in clean.modules():
                vars(one).pop("forward", None)
            self.own.append(clean(self.x))

    @property
    def exact(self) -> list[bool]:
        """Whether the probed module gave its own outputs, for each batch."""
        return [torch.equal(*both) for both in zip(self.answers, self.own, strict=True)]


def frozen(net: nn.Module | None = None) -> nn.Module:
    return (small_net() if net is None else net).eval().requires_grad_(False)


class Trains(Lit):
    """The step and the optimizer of those below."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.01)


class Distilled(Trains):
    """Learns of a frozen teacher, which validation calls too."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = frozen()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        with torch.no_grad():
            soft = self.teacher(batch[0]).softmax(1)
        loss = F.kl_div(self.net(batch[0]).log_softmax(1), soft, reduction="batchmean")
        return loss + F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        agrees = self.net(batch[0]).argmax(1) == self.teacher(batch[0]).argmax(1)
        self.log("agrees", agrees.float().mean())


class Probed(Trains):
    """A head on a frozen backbone in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = frozen(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()))
        nn.init.eye_(self.backbone[0].weight)

    def features(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.backbone(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.net(self.features(batch[0])), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step((self.features(batch[0]), batch[1]), batch_idx)


class Exchanging(Trains):
    """Changes itself at one moment: ``exchange`` does it, and says what is new."""

    when, epoch = "on_train_epoch_start", 1

    def __init__(self) -> None:
        super().__init__()
        self.done = False

    def exchange(self) -> list[nn.Module]:
        raise NotImplementedError

    def _do(self, hook: str) -> None:
        if hook != self.when or self.done or self.current_epoch < self.epoch:
            return
        self.done = True
        for new in self.exchange():
            self.begun = [one.detach().clone() for one in new.parameters()]
            self.new = [new]  # in a list: it is in the model once
            now = [one for one in self.parameters() if one.requires_grad]
            self.trainer.optimizers[0].param_groups[0]["params"] = now

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def on_train_start(self) -> None:
        self._do("on_train_start")

    def on_train_epoch_start(self) -> None:
        self._do("on_train_epoch_start")

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self._do("on_train_batch_start")

    @property
    def has_learned(self) -> bool:
        pairs = zip(self.begun, self.new[0].parameters(), strict=True)
        return all(not torch.equal(before, now) for before, now in pairs)


class Head(Exchanging):
    def exchange(self) -> list[nn.Module]:
        self.old = [self.net[2]]  # in a list: it is no module of this one any more
        self.net[2] = nn.Linear(16, KINDS)
        return [self.net[2]]


def asked(**given: Any) -> QATCallback:
    return qat(**{"baseline": 0.5, "monitor": "val_acc", **given})


def fit(
    module: pl.LightningModule,
    callback: QATCallback | None = None,
    *others: pl.Callback,
    probed: str = "",
    ckpt_path: str | None = None,
    data: tuple[Any, Any] | None = None,
    **given: Any,
) -> tuple[QATCallback, Rounding]:
    """Train for int8, and return the callback and what rounded."""
    callback = asked() if callback is None else callback
    spy = Rounding(probed)
    one = trainer(*others, callback, spy, **{"max_epochs": 2, **given})
    one.fit(module, *(data or (train_loader(48), val_loader())), ckpt_path=ckpt_path)
    return callback, spy
