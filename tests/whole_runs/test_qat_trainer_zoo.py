"""Trainers and modules of every kind, trained for int8."""

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import EarlyStopping, LearningRateFinder
from lit_scenes import KINDS, Lit, train_loader, trainer, val_loader
from qat_scenes import ConvLit, Doubled, checkpoints, qat, train_images, trained, val_images
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

POINTS = train_loader(), val_loader()


def met(callback, module):
    assert callback.result.status == "met"
    assert not any("forward" in vars(part) for part in module.modules())
    assert all(part.training for part in module.net.modules())
    return set(callback.result.int8_ops)


@pytest.mark.parametrize(
    "given",
    [
        {"accumulate_grad_batches": 3},
        {"precision": "bf16-mixed"},
        {"precision": "bf16-true"},
        {"precision": "64-true"},
        {"gradient_clip_val": 0.5},
        {"max_epochs": -1, "max_steps": 12},
        {"limit_train_batches": 2, "max_epochs": 8},
        {"val_check_interval": 2},
        {"check_val_every_n_epoch": 3},
        {"num_sanity_val_steps": 2},
        {"reload_dataloaders_every_n_epochs": 1},
        {"fast_dev_run": True},
        {"detect_anomaly": True},
        {"inference_mode": False},
    ],
    ids=str,
)
def test_trainers(workspace, given):
    callback, module = qat(workspace, tuning={"accuracy_criterion": {"absolute": 0.2}}), ConvLit()
    if given.get("precision") == "64-true":
        module = Double()
    trained(callback, module, **given)
    assert {"net.0", "net.3.conv", "net.6"} <= met(callback, module)
    assert next(module.parameters()).dtype in (
        {"bf16-true": torch.bfloat16, "64-true": torch.float64}.get(
            given.get("precision"), torch.float32
        ),
    )


class Double(ConvLit):
    """Reads pictures of its own type."""


def test_early_stopping(workspace):
    callback = qat(workspace)
    stop = EarlyStopping("val_acc", mode="max", patience=1, stopping_threshold=0.99)
    one, module = trained(callback, None, stop, max_epochs=30)
    assert one.current_epoch < 29
    met(callback, module)


def test_a_search_for_the_learning_rate(workspace):
    callback = qat(workspace)
    finder = LearningRateFinder(num_training_steps=5, update_attr=False)
    _, module = trained(callback, None, finder)
    met(callback, module)


class Rivals(ConvLit):
    """Two nets, two optimizers, stepped by hand."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.rival = nn.Sequential(nn.Linear(KINDS + 1, 4), nn.ReLU(), nn.Linear(4, 1))

    def training_step(self, batch, batch_idx):
        ours, theirs = self.optimizers()
        self.toggle_optimizer(ours)
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        ours.zero_grad()
        self.manual_backward(loss)
        ours.step()
        self.untoggle_optimizer(ours)
        self.toggle_optimizer(theirs)
        loss = self.rival(self.net(batch[0]).detach()).square().mean()
        theirs.zero_grad()
        self.manual_backward(loss)
        theirs.step()
        self.untoggle_optimizer(theirs)

    def configure_optimizers(self):
        return [torch.optim.SGD(one.parameters(), lr=0.05) for one in (self.net, self.rival)]


def test_several_optimizers_stepped_by_hand(workspace):
    callback, module = qat(workspace), Rivals()
    trained(callback, module)
    assert not {one for one in met(callback, module) if one.startswith("rival")}
    assert "saw no calibration data" in callback.result.not_quantizable["rival.0"]


def built(module):
    if module.net is None:
        module.net = ConvLit().net


class InSetup(ConvLit):
    def __init__(self):
        super().__init__()
        self.net = None

    def setup(self, stage):
        built(self)


class InConfigureModel(InSetup):
    def setup(self, stage):
        pass

    def configure_model(self):
        built(self)


@pytest.mark.parametrize("kind", [InSetup, InConfigureModel])
def test_layers_that_are_built_late(tmp_path, workspace, kind):
    saved = checkpoints(tmp_path / "saved")
    callback, module = qat(workspace), kind()
    trained(callback, module, saved, max_epochs=2)
    assert "net.0" in met(callback, module)
    again = qat(workspace.with_name("again"))
    more = checkpoints(tmp_path / "more")
    with pytest.warns(UserWarning, match="dirpath has changed"):
        trained(again, kind(), more, ckpt_path=saved.last_model_path, max_epochs=3)
    assert again.result.status == "met"


class Compiled(ConvLit):
    def __init__(self):
        super().__init__()
        self.net[3] = torch.compile(Doubled(8), backend="eager")


def test_a_part_that_torch_compiled_trains_without_it(workspace):
    callback, module = qat(workspace), Compiled()
    with pytest.warns(UserWarning, match="is compiled, and trains without `torch.compile`"):
        trained(callback, module)
    assert callback.result.status == "met"
    assert any("conv" in one for one in callback.result.int8_ops)


def test_a_module_that_torch_compiled_as_a_whole(workspace):
    callback, module = qat(workspace), ConvLit()
    with pytest.warns(UserWarning, match="`ConvLit` is compiled, and trains without"):
        trained(callback, torch.compile(module, backend="eager"))
    plain = ConvLit()
    alone = qat(workspace.with_name("alone"))
    trained(alone, plain)
    assert callback.result.status == "met"
    assert callback.result.int8_ops == alone.result.int8_ops


class Saving(ConvLit):
    """Computes its middle a second time in the backward pass."""

    def forward(self, x):
        x = self.net[:3](x)
        x = checkpoint(self.net[3], x, use_reentrant=False)
        return self.net[4:](x)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.acc(self(batch[0]), batch[1])
        self.log("val_acc", self.acc)


def test_gradient_checkpointing(workspace):
    callback, module = qat(workspace), Saving()
    trained(callback, module)
    assert "net.3.conv" in met(callback, module)


class Words(Lit):
    """Looks up, sums bags, attends, and ties its last layer to its first."""

    def __init__(self, sparse=False):
        super().__init__()
        self.net = nn.ModuleDict(
            {
                "table": nn.Embedding(20, 8),
                "bag": nn.EmbeddingBag(20, 8, mode="sum"),
                "encoder": nn.TransformerEncoder(
                    nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True), 1
                ),
                "head": nn.Linear(16, KINDS),
            }
        )

    def forward(self, x):
        seen = self.net["encoder"](self.net["table"](x)).mean(1)
        return self.net["head"](torch.cat([seen, self.net["bag"](x)], 1))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.acc(self(batch[0]), batch[1])
        self.log("val_acc", self.acc)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.02)


def sentences(count, seed):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % KINDS
    words = torch.randint(KINDS, 20, (count, 6), generator=draw)
    words[:, 2] = labels
    return DataLoader(TensorDataset(words, labels), batch_size=24)


def test_embeddings_and_a_transformer(workspace):
    callback, module = qat(workspace), Words()
    trained(callback, module, data=(sentences(96, 0), sentences(48, 1)), max_epochs=8)
    ops = met(callback, module)
    assert {"net.table", "net.bag", "net.head", "net.encoder.layers.0.linear1"} <= ops


class Tied(Lit):
    def __init__(self):
        super().__init__(0.02)
        self.net = nn.ModuleDict({"up": nn.Linear(8, 8), "last": nn.Linear(8, KINDS)})

    def forward(self, x):
        hidden = self.net["up"](x).relu()
        return self.net["last"](F.linear(hidden, self.net["up"].weight))

    training_step, validation_step = Words.training_step, Words.validation_step


def test_a_weight_that_other_code_reads_is_what_was_trained(workspace):
    """Its layer is int8; the other code goes on in fp32."""
    callback, module = qat(workspace), Tied()
    trained(callback, module, data=POINTS, max_epochs=6)
    assert met(callback, module) == {"net.up", "net.last"}
    assert torch.equal(callback.result.model.net["up"].weight, module.net["up"].weight)


class ReadsItsMode(Lit):
    def forward(self, x):
        return F.dropout(self.net(x), 0.1, training=self.training)

    training_step, validation_step = Words.training_step, Words.validation_step


def test_functional_dropout(workspace):
    callback, module = qat(workspace), ReadsItsMode(0.05)
    trained(callback, module, data=POINTS)
    assert met(callback, module) == {"net.0", "net.2"}


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_parametrized_weights(workspace, norm):
    callback, module = qat(workspace), Lit(0.05)
    norm(module.net[0])
    trained(callback, module, data=POINTS, max_epochs=6)
    assert {"net.0", "net.2"} <= met(callback, module)


def test_a_validation_that_came_first(workspace):
    """Its tensors are of inference mode, which no gradient passes."""
    callback, module = qat(workspace), ConvLit()
    one = trainer(callback, max_epochs=4)
    one.validate(module, val_images(), verbose=False)
    one.fit(module, train_images(), val_images())
    met(callback, module)


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt()], ids=str)
def test_a_training_that_ends_in_an_error(workspace, error):
    class Failing(ConvLit):
        def training_step(self, batch, batch_idx):
            if self.global_step == 4:
                raise error
            return super().training_step(batch, batch_idx)

    callback, module = qat(workspace, freeze_batch_norm=0), Failing()
    with pytest.raises((RuntimeError, KeyboardInterrupt, SystemExit)):
        trained(callback, module)
    assert not any("forward" in vars(part) for part in module.modules())
    assert all(part.training for part in module.net.modules())
    trained(callback, ConvLit())
    assert callback.result.status == "met"
