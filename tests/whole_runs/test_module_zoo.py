"""What LightningModules do in their hooks, and what is still quantized."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers.logger import Logger
from lit_scenes import KINDS, WIDTH, Lit, small_net
from torch import nn

from tests.whole_runs.test_trainer_zoo import quantized


class Adversaries(Lit):
    """Two optimizers that it steps itself, as a GAN does."""

    def __init__(self, lr=0.01):
        super().__init__(lr)
        self.automatic_optimization = False
        self.critic = nn.Sequential(nn.Linear(WIDTH, 4), nn.ReLU(), nn.Linear(4, 1))

    def training_step(self, batch, batch_idx):
        for optimizer, loss in zip(self.optimizers(), self._losses(batch), strict=True):
            self.toggle_optimizer(optimizer)
            optimizer.zero_grad()
            self.manual_backward(loss)
            self.clip_gradients(optimizer, gradient_clip_val=0.5)
            optimizer.step()
            self.untoggle_optimizer(optimizer)
        for scheduler in self.lr_schedulers():
            scheduler.step()

    def _losses(self, batch):
        return F.cross_entropy(self.net(batch[0]), batch[1]), self.critic(batch[0]).square().mean()

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        self.critic(batch[0])

    test_step = validation_step

    def configure_optimizers(self):
        both = [torch.optim.SGD(part.parameters(), lr=0.01) for part in (self.net, self.critic)]
        return both, [torch.optim.lr_scheduler.StepLR(one, 3) for one in both]


class Reading(Lit):
    """Reads whatever a module may read of its trainer."""

    def on_validation_start(self):
        assert self.trainer.validating or self.trainer.state.fn == "fit"

    def validation_step(self, batch, batch_idx):
        if not self.trainer.testing:
            assert self.optimizers().param_groups[0]["lr"] == 0.01
            assert self.lr_schedulers() is None
        assert self.trainer.strategy.root_device == self.device == batch[0].device
        assert self.trainer.precision_plugin.precision == "32-true"
        assert len(self.trainer.num_val_batches) == 1 or self.trainer.testing
        assert self.trainer.world_size == self.trainer.num_devices == 1
        assert self.trainer.model is self
        assert self.trainer.max_epochs is None or self.trainer.max_epochs >= self.current_epoch
        assert self.global_step >= 0
        assert self.local_rank == self.global_rank == 0
        weights = torch.ones(KINDS, device=self.device)
        self.acc(self.net(batch[0]) * weights, batch[1])
        self.log("val_acc", self.acc, on_step=False, on_epoch=True, prog_bar=True)

    test_step = validation_step

    def on_validation_epoch_end(self):
        if self.trainer.sanity_checking:
            return
        assert self.trainer.is_global_zero
        assert self.trainer.log_dir or not self.trainer.loggers
        assert self.trainer.callback_metrics is not None
        assert isinstance(self.trainer.progress_bar_metrics, dict)
        assert self.trainer.estimated_stepping_batches > 0


class Pictures(Logger):
    """Remembers what it was shown."""

    name, version = "pictures", 0

    def __init__(self):
        super().__init__()
        self.seen = []

    @property
    def experiment(self):
        return self

    def add_image(self, tag, picture, step):
        self.seen.append(tag)

    log_image = add_image

    def log_metrics(self, metrics, step=None):
        self.seen.extend(metrics)

    def log_hyperparams(self, *_, **__):
        pass


class Drawing(Lit):
    """Logs pictures and numbers by the logger's own means."""

    def on_validation_epoch_end(self):
        picture = torch.zeros(3, 4, 4)
        self.logger.experiment.add_image("picture", picture, self.global_step)
        self.logger.log_image("image", picture, self.global_step)
        for logger in self.loggers:
            logger.log_metrics({"own": 1.0}, self.global_step)


class Gathering(Lit):
    """Keeps its outputs, and clears them when the epoch ends."""

    def __init__(self, lr=0.0):
        super().__init__(lr)
        self.outputs = []

    def validation_step(self, batch, batch_idx):
        hits = (self.net(batch[0]).argmax(1) == batch[1]).float()
        self.outputs.append(hits)
        return {"hits": hits}

    def on_validation_epoch_end(self):
        self.log("val_acc", torch.cat(self.outputs).mean())
        self.outputs.clear()

    test_step, on_test_epoch_end = validation_step, on_validation_epoch_end


class Saving(Lit):
    """Leaves a file for each validation."""

    def on_validation_epoch_end(self):
        if self.trainer.is_global_zero and not self.trainer.sanity_checking:
            folder = Path(self.trainer.log_dir or self.trainer.default_root_dir)
            number = len(list(folder.glob("seen-*")))
            (folder / f"seen-{number}.txt").write_text(str(self.current_epoch))


class Twice(Lit):
    """Evaluates with functions that switch modes and gradients off themselves."""

    @torch.no_grad()
    def validation_step(self, batch, batch_idx):
        self.eval()
        with torch.inference_mode():
            logits = self.net(batch[0])
        self.acc(logits, batch[1])
        self.log("val_acc", self.acc)

    test_step = validation_step


class Sampling(Lit):
    """Needs gradients in its validation."""

    def validation_step(self, batch, batch_idx):
        with torch.enable_grad():
            x = batch[0].clone().requires_grad_()
            (grad,) = torch.autograd.grad(x.square().sum(), x)
        super().validation_step([batch[0] + 0 * grad, batch[1]], batch_idx)


class Moving(Lit):
    """Moves its batches itself, and once more."""

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        assert device.type == "cpu"
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_before_batch_transfer(self, batch, dataloader_idx):
        return [batch[0] * 2, batch[1]]

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return [batch[0].to(self.device) / 2, batch[1]]


class Stopping(Lit):
    """Ends the training from inside."""

    def on_validation_epoch_end(self):
        self.trainer.should_stop = True


class Profiled(Lit):
    """Measures and prints."""

    def validation_step(self, batch, batch_idx):
        with self.trainer.profiler.profile("mine"):
            super().validation_step(batch, batch_idx)
        if batch_idx == 0:
            self.print("first batch")

    test_step = validation_step


class Frozen(Lit):
    """Trains only its head."""

    def __init__(self, lr=0.01):
        super().__init__(lr)
        self.net[0].requires_grad_(False)


class OwnStep(Lit):
    """Steps its optimizer itself, and its scheduler by what the validation says."""

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
        optimizer.step(closure=optimizer_closure)

    def configure_optimizers(self):
        sgd = torch.optim.SGD(self.parameters(), lr=0.01)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(sgd, "max")
        return {"optimizer": sgd, "lr_scheduler": {"scheduler": plateau, "monitor": "val_acc"}}


class NoOptimizer(Lit):
    """Does not learn."""

    def configure_optimizers(self):
        return None


class Aliased(Lit):
    """Has a part that is used nowhere, and one under two names."""

    def __init__(self, lr=0.0):
        super().__init__(lr)
        self.unused = small_net()
        self.alias = self.net


MODULES = [
    Adversaries, Aliased, Frozen, Gathering, Moving, NoOptimizer, OwnStep, Profiled, Reading,
    Sampling, Saving, Stopping, Twice,
]  # fmt: skip


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.filterwarnings("ignore:`LightningModule.configure_optimizers` returned `None`")
def test_modules(callback, kind):
    quantized(callback(), kind(lr=0.01), num_sanity_val_steps=1, inference_mode=False)


def test_what_a_module_draws_is_drawn_once(callback):
    pictures = Pictures()
    quantized(callback(), Drawing(lr=0.01), logger=pictures)
    assert [tag for tag in pictures.seen if not tag.startswith(("lpot/", "val_acc"))] == [
        "picture", "image", "own", "epoch",
    ]  # fmt: skip
