"""Pruning where not all of a model is trained."""

import logging

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import BackboneFinetuning
from sparse_scenes import Rolling, checkpoints, halved, pruned, pruning, weights_in, zeros
from torch import nn

from lpot_lightning.errors import ArtifactError

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used"),
]


class Taught(Rolling):
    """Has a teacher that is frozen, and another that no optimizer has."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
        self.frozen.requires_grad_(False)
        self.nobodys = nn.Linear(8, 3)

    def configure_optimizers(self):
        return torch.optim.SGD(self.net.parameters(), lr=0.05, momentum=0.9)


class Told(pl.Callback):
    """Takes down what was told before the first batch."""

    def __init__(self, caplog):
        caplog.set_level(logging.INFO)
        self.caplog, self.text = caplog, None

    def on_train_batch_start(self, *_):
        self.text = self.text or self.caplog.text


def test_what_nothing_trains_is_left_alone_and_told_before_the_first_batch(workspace, caplog):
    module, told = Taught(), Told(caplog)
    before = weights_in(module)
    pruned(pruning(workspace), module, told)
    assert "nothing trains it when pruning begins: `frozen`, `nobodys`. It" in told.text
    after = zeros(module)
    assert [after[name] for name in before if not name.startswith("net")] == [0.0] * 3
    assert halved({name: value for name, value in weights_in(module).items() if "net" in name})


class Gan(Rolling):
    """Two networks, of which validation calls one."""

    def __init__(self):
        super().__init__()
        self.discriminator = nn.Linear(3, 2)

    def training_step(self, batch, batch_idx):
        judged = self.discriminator(self.net(batch[0])).square().mean()
        return super().training_step(batch, batch_idx) + 0.01 * judged


def test_networks_that_nobody_named_are_told_with_their_shares(workspace, caplog):
    told = Told(caplog)
    pruned(pruning(workspace), Gan(), told)
    assert (
        "weights that are pruned without being named are in: `net` 96.7%, `discriminator` 3.3%"
        in told.text
    )
    caplog.clear()
    told = Told(caplog)
    pruned(pruning(None, {"names": "net.*.weight, discriminator.weight"}), Gan(), told)
    assert "without being named" not in told.text


class Backbone(Rolling):
    def __init__(self):
        super().__init__()
        self.backbone, self.head = self.net[:2], self.net[2]
        self.net = nn.Sequential()

    def forward(self, x):
        return self.head(self.backbone(x))

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        trained = [one for one in self.parameters() if one.requires_grad]
        return torch.optim.SGD(trained, lr=0.05, momentum=0.9)


@pytest.mark.parametrize(
    ("modules", "shares"), [(None, [0.0, 0.5]), (["backbone", "head"], [0.5, 0.5])]
)
def test_a_backbone_that_is_unfrozen_later_is_pruned_where_it_is_named(workspace, modules, shares):
    module = Backbone()
    finetuning = BackboneFinetuning(1, verbose=False)
    pruned(pruning(workspace, modules=modules), module, finetuning)
    found = [zeros(module)[name] for name in ("backbone.0.weight", "head.weight")]
    assert found == pytest.approx(shares, abs=0.02)


class Half(Rolling):
    def __init__(self, frozen):
        super().__init__()
        self.net[0].requires_grad_(not frozen)


def test_a_fit_that_goes_on_prunes_what_was_trained_when_pruning_began(tmp_path, workspace):
    """Also where that is trained by now: the YAML asks for the same."""
    pruned(pruning(workspace), Half(True), checkpoints(tmp_path, filename="{epoch}"), max_epochs=3)
    module = Half(False)
    pruned(pruning(workspace), module, ckpt_path=str(tmp_path / "epoch=1.ckpt"))
    assert zeros(module)["net.0.weight"] == 0.0
    assert 0.4 < zeros(module)["net.2.weight"] < 0.6


def test_a_checkpoint_that_is_damaged_is_told(tmp_path, workspace):
    pruned(pruning(workspace), Half(True), checkpoints(tmp_path, filename="{epoch}"), max_epochs=3)
    path = tmp_path / "epoch=1.ckpt"
    saved = torch.load(path, weights_only=True)
    saved["callbacks"]["PruningCallback"]["pruner"]["frozen"] = [1]
    torch.save(saved, path)
    with pytest.raises(ArtifactError, match="`pruner.frozen` in the checkpoint is damaged"):
        pruned(pruning(workspace), Half(True), ckpt_path=str(path))
