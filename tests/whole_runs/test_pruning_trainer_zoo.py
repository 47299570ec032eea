"""Trainers and modules of every kind, pruned."""

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
import yaml
from lightning.pytorch.callbacks import EarlyStopping, LearningRateFinder
from lightning.pytorch.tuner import Tuner
from lit_scenes import KINDS, Lit, Points, same, train_loader, trainer, val_loader, weights_of
from qat_scenes import ConvLit, train_images, val_images
from sparse_scenes import (
    GRADIENT,
    WEIGHTS,
    ByHand,
    Double,
    Rolling,
    Seen,
    Twins,
    checkpoints,
    halved,
    pruned,
    pruning,
    pruning_conf,
    weights_in,
    zeros,
)
from torch import nn
from torch.nn.utils import parametrizations

from lpot_lightning import PruningCallback

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used"),
]
BOTH = pytest.mark.parametrize("kind", [{}, GRADIENT], ids=["magnitude", "sensitivity"])
LOOSE = {"accuracy_criterion": {"absolute": 0.3}}


@pytest.mark.parametrize(
    "given",
    [
        {"accumulate_grad_batches": 3},
        {"precision": "bf16-mixed"},
        {"precision": "bf16-true"},
        {"precision": "64-true"},
        {"gradient_clip_val": 0.5},
        {"max_epochs": -1, "max_steps": 12},
        {"max_epochs": 4, "max_time": {"minutes": 9}},
        {"limit_train_batches": 1},
        {"limit_val_batches": 1},
        {"val_check_interval": 2},
        {"val_check_interval": 3, "check_val_every_n_epoch": None},
        {"check_val_every_n_epoch": 3},
        {"num_sanity_val_steps": 2},
        {"reload_dataloaders_every_n_epochs": 1},
        {"detect_anomaly": True},
        {"inference_mode": False},
        {"overfit_batches": 2},
        {"enable_progress_bar": True},
    ],
    ids=str,
)
def test_trainers(workspace, given):
    ends_well(workspace, {}, given)


def ends_well(workspace, kind, given):
    callback, module, seen = pruning(workspace, kind, tuning=LOOSE), Double(), Seen()
    data = (train_loader(64, shuffle=False), val_loader(24))
    pruned(callback, module, seen, data=data, **given)
    assert (callback.result.status, callback.result.reached) == ("met", True)
    assert halved(module)
    assert halved(callback.result.model)
    last = {name: value == 0 for name, value in seen.batches[-1].items()}
    assert all(torch.equal(last[name], weights_in(module)[name] == 0) for name in WEIGHTS)
    assert not same(weights_of(module), weights_of(Double().to(module.dtype)))
    dtype = {"bf16-true": torch.bfloat16, "64-true": torch.float64}.get(given.get("precision"))
    assert next(module.parameters()).dtype == (dtype or torch.float32)
    assert next(callback.result.model.parameters()).dtype == torch.float32


@pytest.mark.parametrize(
    "given",
    [
        {"accumulate_grad_batches": 3},
        {"precision": "bf16-mixed"},
        {"precision": "bf16-true"},
        {"precision": "64-true"},
        {"gradient_clip_val": 0.5},
        {"limit_train_batches": 1},
    ],
    ids=str,
)
def test_trainers_by_sensitivity(workspace, given):
    ends_well(workspace, GRADIENT, given)


@pytest.mark.parametrize(
    "pruner",
    [
        {},
        GRADIENT,
        {"prune_type": "pattern_lock"},
        {**GRADIENT, "names": "net.0.*", "parameters": {"target": 4, "stride": 2}},
    ],
    ids=["magnitude", "sensitivity", "lock", "heads"],
)
@pytest.mark.parametrize("batches", [True, 3])
def test_a_quick_run_prunes_to_the_target_and_writes_nothing(workspace, pruner, batches):
    callback, module = pruning(workspace, pruner, tuning=LOOSE), Rolling()
    with torch.no_grad():
        module.net[0].weight[:8] = 0
    pruned(callback, module, fast_dev_run=batches)
    assert callback.result.reached
    assert zeros(module)["net.0.weight"] == 0.5
    assert callback.result.workspace is None
    assert not workspace.exists()


def test_a_quick_run_compares_with_the_dense_model(workspace):
    """Its validation comes after the pruning."""

    class Better(Rolling):
        def validation_step(self, batch, batch_idx):
            self.log("worth", (self.net[0].weight == 0).float().mean())

    callback = pruning(workspace, tuning=LOOSE)
    pruned(callback, Better(), fast_dev_run=True)
    assert (callback.result.accuracy, callback.result.baseline) == (0.5, 0.0)


@pytest.mark.parametrize("wrapped", [True, False])
def test_steps_by_hand(workspace, wrapped):
    callback, seen = pruning(workspace, end_epoch=0), Seen()
    pruned(callback, ByHand(wrapped), seen, max_epochs=2)
    assert all(map(halved, seen.batches))
    assert callback.result.reached


def test_sensitivity_by_hand(workspace):
    callback, seen = pruning(workspace, GRADIENT), Seen()
    pruned(callback, ByHand(), seen)
    assert all(map(halved, seen.batches[8:]))


@BOTH
def test_several_optimizers(workspace, kind):
    callback, seen = pruning(workspace, kind), Seen()
    pruned(callback, Twins(), seen)
    assert all(map(halved, seen.batches[8:]))
    assert callback.result.status == "met"


def test_gradients_of_accumulated_batches_count_once(workspace):
    """The sensitivity of two batches together is that of one of twice the size."""
    sums = []
    for batch, accumulate in ((32, 1), (16, 2)):
        found = []

        class Reading(pl.Callback):
            def on_train_epoch_end(self, one, module, found=found):
                found.append(one.callbacks[0].state_dict()["pruner"]["pruners"][0][WEIGHTS[0]])

        data = (train_loader(64, batch_size=batch, shuffle=False), val_loader(24))
        pruned(
            pruning(workspace, GRADIENT, end_epoch=1), Rolling(), Reading(), data=data,
            accumulate_grad_batches=accumulate, max_epochs=2,
        )  # fmt: skip
        sums.append(found[0])
    assert torch.allclose(*sums, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda these: torch.optim.AdamW(these, lr=0.01, weight_decay=0.1),
        lambda these: torch.optim.LBFGS(these, lr=0.1, max_iter=3),
        lambda these: torch.optim.RMSprop(these, lr=0.005, momentum=0.9),
    ],
    ids=["AdamW", "LBFGS", "RMSprop"],
)
def test_optimizers(workspace, make):
    class With(Lit):
        def configure_optimizers(self):
            return make(self.parameters())

    seen = Seen()
    pruned(pruning(workspace), With(), seen)
    assert all(map(halved, seen.batches[8:]))


class Tied(Lit):
    """One matrix is the weight of two layers."""

    def __init__(self):
        super().__init__(0.02)
        self.net = nn.ModuleDict(
            {"up": nn.Linear(8, 8), "down": nn.Linear(8, 8), "last": nn.Linear(8, KINDS)}
        )
        self.net["down"].weight = self.net["up"].weight

    def forward(self, x):
        for name in ("up", "down"):
            x = self.net[name](x).relu()
        return self.net["last"](x)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.acc(self(batch[0]), batch[1])
        self.log("val_acc", self.acc)


@BOTH
@pytest.mark.parametrize("names", ["", "net.down.weight, net.last.weight"])
def test_tied_weights(workspace, kind, names):
    given = {**kind, **({"names": names} if names else {})}
    module = Tied()
    callback = pruning(workspace, given, tuning={"accuracy_criterion": {"absolute": 1}})
    pruned(callback, module)
    assert module.net["up"].weight is module.net["down"].weight
    assert halved(module)
    assert len(callback.result.layers) == 2
    model = callback.result.model
    assert model.net["up"].weight is model.net["down"].weight


def test_a_tied_weight_is_excluded_by_either_of_its_names(workspace):
    pruner = {"names": "net.*", "excluded_names": "net.down.weight"}
    callback, module = pruning(workspace, pruner), Tied()
    pruned(callback, module)
    assert [one.name for one in callback.result.layers] == ["net.last.weight"]
    assert zeros(module)["net.up.weight"] == 0.0


def test_layers_in_channels_last(workspace):
    module = ConvLit().to(memory_format=torch.channels_last)
    callback = pruning(workspace, tuning={"accuracy_criterion": {"absolute": 1}})
    pruned(callback, module, data=(train_images(48), val_images(24)))
    assert module.net[3].conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert all(abs(share - 0.5) < 0.02 for share in zeros(module).values())


def test_weights_that_are_computed_from_others(workspace):
    """Only what is a parameter by itself is pruned."""
    module = Rolling()
    parametrizations.weight_norm(module.net[0])
    callback = pruning(workspace)
    pruned(callback, module)
    assert [one.name for one in callback.result.layers] == ["net.2.weight"]
    assert callback.result.reached


def test_a_module_that_is_built_late(workspace):
    class Late(Rolling):
        def __init__(self):
            super().__init__()
            self.state, self.net = self.net.state_dict(), None

        def configure_model(self):
            if self.net is None:
                self.net = Lit().net
                self.net.load_state_dict(self.state)

    callback, module = pruning(workspace), Late()
    pruned(callback, module)
    assert halved(module)


def test_a_weight_that_is_frozen_and_named(workspace):
    module = Rolling()
    module.net[0].weight.requires_grad_(False)
    pruned(pruning(workspace, {"names": "net.*.weight"}), module)
    assert halved(module)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_learning_rate_that_is_sought(workspace, when):
    finder = LearningRateFinder(num_training_steps=30, attr_name="rate")

    class Sought(Rolling):
        rate = 0.01

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.rate, momentum=0.9)

    callback, seen = pruning(workspace), Seen()
    first, others = ((finder,), (seen,)) if when == "before" else ((), (finder, seen))
    _, module = pruned(callback, Sought(), *others, first=first, enable_checkpointing=True)
    assert module.rate != 0.01
    assert halved(module)
    assert callback.result.reached


def test_a_batch_size_that_is_sought(workspace):
    class Sized(Rolling):
        batch_size = 8

        def train_dataloader(self):
            return train_loader(64, batch_size=self.batch_size)

        def val_dataloader(self):
            return val_loader(24)

    callback, module = pruning(workspace), Sized()
    one = trainer(callback, max_epochs=4, enable_checkpointing=True)
    Tuner(one).scale_batch_size(module, max_trials=1, steps_per_trial=1)
    assert not (module.net[0].weight == 0).any()
    one.fit(module)
    assert callback.result.reached


def test_early_stopping_and_a_loss(workspace):
    """A metric that is to be low, named by the callback that watches it."""

    class Loss(Rolling):
        def validation_step(self, batch, batch_idx):
            self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    callback = pruning(workspace, target_sparsity=0.95)
    pruned(callback, Loss(), EarlyStopping("val_loss", patience=9))
    result = callback.result
    assert (result.monitor, result.criterion.higher_is_better) == ("val_loss", False)
    assert (result.status, result.reached) == ("not_met", True)
    assert result.accuracy > result.baseline


def test_test_validate_and_predict_with_the_callback(tmp_path, workspace):
    saved = checkpoints(tmp_path / "saved", monitor="val_acc", mode="max", save_top_k=1)
    callback = pruning(workspace)
    one, module = pruned(callback, None, saved)
    result, before = callback.result, weights_of(module)
    for deed in (one.validate, one.test):
        assert deed(module, val_loader(24), verbose=False) == [{"val_acc": result.accuracy}]
    assert len(one.predict(module, val_loader(24))) == 2
    assert callback.result is result
    assert same(weights_of(module), before)
    assert one.test(dataloaders=val_loader(24), ckpt_path="best", verbose=False)
    alone = trainer(pruning(workspace))
    assert alone.validate(Rolling(), val_loader(24), verbose=False)
    path = saved.best_model_path
    assert alone.test(Rolling(), val_loader(24), ckpt_path=path, weights_only=True, verbose=False)
    assert alone.callbacks[0].result is None


def test_a_validation_in_between_is_no_fit_that_goes_on(tmp_path, workspace):
    """A checkpoint that was tested says nothing of the model that is fitted next."""
    saved = checkpoints(tmp_path / "saved")
    pruned(pruning(workspace), None, saved)
    callback, seen = pruning(workspace), Seen()
    one = trainer(callback, seen, max_epochs=4)
    path = saved.last_model_path
    one.test(Rolling(), val_loader(24), ckpt_path=path, weights_only=True, verbose=False)
    one.fit(Rolling(), train_loader(64), val_loader(24))
    assert zeros(seen.batches[0]) == dict.fromkeys(WEIGHTS, 0.0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Lightning 2.6 calls jsonargparse so
@pytest.mark.parametrize("inline", [True, False], ids=["mapping", "path"])
def test_the_callback_in_the_yaml_of_a_cli(tmp_path, monkeypatch, inline):
    """With every argument, and pruners that need no tag."""
    pytest.importorskip("jsonargparse")
    from lightning.pytorch.cli import LightningCLI

    given = pruning_conf("here", {"names": WEIGHTS[0]}, target_sparsity=0.25)
    if not inline:
        (tmp_path / "pruning.yaml").write_text(yaml.safe_dump(given))
        given = str(tmp_path / "pruning.yaml")
    arguments = {"conf": given, "monitor": "val_acc", "modules": ["net"], "baseline": 0.75}
    asked = {
        "trainer": {
            "callbacks": [{"class_path": "lpot_lightning.PruningCallback", "init_args": arguments}],
            "max_epochs": 4, "accelerator": "cpu", "logger": False, "enable_progress_bar": False,
            "enable_model_summary": False, "enable_checkpointing": False,
            "default_root_dir": str(tmp_path / "root"),
        },
        "model": {"lr": 0.01},
    }  # fmt: skip
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(asked))
    monkeypatch.setattr("sys.argv", ["fit"])
    cli = LightningCLI(
        Lit, Points, args=["fit", "--config", str(tmp_path / "fit.yaml")],
        save_config_callback=None, seed_everything_default=False,
    )  # fmt: skip
    (callback,) = [one for one in cli.trainer.callbacks if isinstance(one, PruningCallback)]
    assert zeros(cli.model) == {WEIGHTS[0]: 0.25, WEIGHTS[1]: 0.0}
    assert callback.result.baseline == 0.75
    assert callback.result.workspace == tmp_path / "root/here"
