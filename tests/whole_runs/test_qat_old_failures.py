"""What went wrong where others trained for int8, and must not here.

Numbers are threads of github.com/Lightning-AI/pytorch-lightning, about its own callback, unless
another project is named. Processes that train together are in ``test_qat_ddp.py``.
"""

import copy
from itertools import pairwise

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelPruning
from lit_scenes import WIDTH, Lit, same, train_loader, trainer, val_loader, weights_of
from qat_scenes import (
    KINDS,
    ConvLit,
    checkpoints,
    images,
    qat,
    ranges_in,
    train_images,
    trained,
    val_images,
)
from torch import nn
from torch.nn.utils import prune

import lpot_lightning
from lpot_lightning.quantization.program.program import programs_of
from tests.whole_runs.test_old_failures import ManyWays

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used"),
]
LOOSE = {"accuracy_criterion": {"absolute": 1.0}}


def fit(callback, module=None, *others, **given):
    """Fit on points that a line can separate."""
    module = Lit(lr=0.01) if module is None else module
    data = (train_loader(), val_loader())
    return trained(callback, module, *others, data=data, **{"max_epochs": 2, **given})


def outputs(model, x=None):
    x = images(32, 2).tensors[0] if x is None else x
    with torch.no_grad():
        return model.eval()(x)


class Noting(pl.Callback):
    """Does something in the middle of a fit."""

    def __init__(self, **deeds):
        vars(self).update(deeds)


# -- Lightning's own callback -------------------------------------------------------------------


@pytest.mark.parametrize("form", ["fp32", "fake_quant", "int8"])
def test_6457_a_checkpoint_of_the_training_loads_in_every_form(tmp_path, workspace, form):
    """``load_from_checkpoint`` met keys of observers that the class does not have."""
    saved = checkpoints(tmp_path / "saved")
    _, module = trained(qat(workspace), None, saved, max_epochs=1)
    if form == "fp32":
        loaded = ConvLit.load_from_checkpoint(saved.last_model_path)
        assert same(weights_of(loaded), weights_of(module))
        assert torch.equal(outputs(loaded), outputs(module))
    else:
        loaded = lpot_lightning.load_from_checkpoint(ConvLit, saved.last_model_path, form)
        exact, found = outputs(module), outputs(loaded)
        assert 0 < (found - exact).norm() / exact.norm() < 0.1
    trainer().test(loaded, val_images(), verbose=False)


def test_8485_and_11346_a_fit_goes_on_with_the_ranges_of_its_checkpoint(tmp_path, workspace):
    """They were restored by a hook that Lightning does not have any more, or not at all."""
    saved, found = checkpoints(tmp_path / "saved"), []
    trained(qat(workspace), None, saved, max_epochs=1)
    callback = qat(workspace)
    look = Noting(on_train_start=lambda *_: found.append(callback._fit.training.state()["ranges"]))
    trained(callback, None, look, ckpt_path=saved.last_model_path, max_epochs=2)
    assert same(found[0], ranges_in(saved.last_model_path))
    assert torch.isfinite(found[0]["high"]).all()


def test_12896_the_best_checkpoint_can_be_tested_after_the_fit(tmp_path, workspace):
    """Quantized in place at fit end, the module could not take its own checkpoint any more."""
    saved = checkpoints(tmp_path / "saved", monitor="val_acc", mode="max")
    one, module = trained(qat(workspace), None, saved)
    tested = one.test(dataloaders=val_images(), ckpt_path="best", verbose=False)
    plain = ConvLit.load_from_checkpoint(saved.best_model_path)
    assert tested == trainer().test(plain, val_images(), verbose=False)
    assert torch.equal(outputs(module), outputs(plain))


def test_12896_a_second_trainer_tests_a_checkpoint_while_it_trains(tmp_path, workspace):
    """The live module rounds then, as in its own validation, and trains on as if nothing was."""

    def test_it(one, module):
        if one.current_epoch == 2:
            path, modes = saved.best_model_path, [part.training for part in module.modules()]
            weights, second = weights_of(module), trainer()
            tested = second.test(module, val_images(), ckpt_path=path, verbose=False)
            module.load_state_dict(weights)
            for part, mode in zip(module.modules(), modes, strict=True):
                part.training = mode
            module.trainer = one
            rounds = lpot_lightning.load_from_checkpoint(ConvLit, path, "fake_quant")
            found.append((tested, trainer().test(rounds, val_images(), verbose=False)))

    found, ends = [], []
    for deeds in ({}, {"on_train_epoch_start": test_it}):
        torch.manual_seed(0)
        saved = checkpoints(tmp_path / str(len(ends)), monitor="val_acc", mode="max")
        _, module = trained(qat(workspace), None, saved, Noting(**deeds), max_epochs=3)
        ends.append((weights_of(module), ranges_in(saved.last_model_path)))
    ((live, loaded),) = found
    assert live == loaded
    assert same(ends[0][0], ends[1][0])
    assert same(ends[0][1], ends[1][1])


def test_7427_the_module_can_be_trained_on(workspace):
    """The live module was the quantized one, which cannot be trained."""
    _, module = trained(qat(workspace), max_epochs=1)
    before = weights_of(module)
    trainer(max_epochs=1).fit(module, train_images(), val_images())
    assert not same(before, weights_of(module))


def test_10968_calling_the_int8_model_quantizes_nothing_twice(workspace):
    """A forward that was wrapped for training stayed wrapped after the conversion."""
    callback = qat(workspace)
    _, module = trained(callback)
    int8, x = callback.result.model, images(32, 2).tensors[0]
    for model in (module, int8):
        assert "forward" not in vars(model)
        assert torch.equal(outputs(model), outputs(model))
    assert "forward" not in vars(module.net)
    restored = lpot_lightning.load_from_checkpoint(ConvLit, workspace / "best_quantized.ckpt")
    assert torch.equal(outputs(restored, x), outputs(int8, x))


@pytest.mark.parametrize("thread", [15862, 7926])
def test_15862_and_7926_keywords_tuples_and_dicts_go_through(workspace, thread):
    """The wrapped forward took one tensor by position, and nothing else."""

    class Training(ManyWays):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self(batch[0]), batch[1])

    class Positions(Training):
        def forward(self, x, scale=1.0):
            return self.net(pair=(x, None), extra={"bias": torch.zeros(3)}, scale=scale)["logits"]

    callback = qat(workspace)
    _, module = fit(callback, {15862: Training, 7926: Positions}[thread]())
    assert callback.result.status == "met"
    assert set(callback.result.int8_ops) >= {"net.net.0", "net.net.2"}
    x = next(iter(val_loader()))[0]
    assert torch.equal(outputs(module, x), module(x))


class Pieces(nn.Module):
    """Has parts that can be called past it."""

    def __init__(self, width=WIDTH, kinds=3):
        super().__init__()
        self.enc, self.head = nn.Linear(width, 16), nn.Linear(16, kinds)

    def forward(self, x):
        return self.head(F.relu(self.enc(x)))


class InPieces(Lit):
    """Its training never calls what its validation calls."""

    def __init__(self, lr=0.05):
        super().__init__(lr)
        self.net = Pieces()

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net.head(F.relu(self.net.enc(batch[0]))), batch[1])


def test_7551_layers_round_that_never_see_the_modules_forward(tmp_path, workspace):
    """Steps that call a submodule, and not ``self(x)``, went past the quantization."""

    class Beside(Lit):
        def forward(self, x):
            raise AssertionError("nobody calls this")

    saved = checkpoints(tmp_path / "saved")
    callback = qat(workspace)
    fit(callback, Beside(lr=0.01), saved)
    assert callback.result.int8_ops == ("net.0", "net.2")
    assert torch.isfinite(ranges_in(saved.last_model_path)["high"]).all()


class Look(pl.Callback):
    """Notes before each batch whether a layer rounds that is called by itself."""

    def __init__(self, layer):
        self.rounds, self._layer = [], layer

    def on_train_batch_start(self, one, module, batch, batch_idx):
        layer, x = module.get_submodule(self._layer), torch.linspace(-1, 1, WIDTH)[None]
        with torch.no_grad():
            exact = F.linear(x, layer.weight, layer.bias)
            self.rounds.append(not torch.equal(vars(layer).get("forward", layer)(x), exact))


def test_7551_layers_round_that_training_calls_past_their_module(workspace):
    """From the first batch on, where the validation calls the module as a whole."""
    look, callback = Look("net.enc"), qat(workspace)
    fit(callback, InPieces(), look, max_epochs=1)
    assert look.rounds == [True] * 8
    assert callback.result.int8_ops == ("net.enc", "net.head")


class Late(InPieces):
    """Calls the layers one by one in its last epoch only, when ranges are frozen."""

    def training_step(self, batch, batch_idx):
        if self.current_epoch < 1:
            return F.cross_entropy(self.net(batch[0]), batch[1])
        return super().training_step(batch, batch_idx)


def test_7551_what_training_calls_past_its_module_in_the_last_epoch_only(tmp_path, workspace):
    """The layers are the same ones, and so are their ranges."""
    callback, saved = qat(workspace), checkpoints(tmp_path / "saved")
    one, _ = fit(callback, Late(), saved)
    assert callback.result.int8_ops == ("net.enc", "net.head")
    assert ranges_in(saved.last_model_path)["high"].isfinite().all()
    assert one.state.finished


@pytest.mark.parametrize("given", [{"fast_dev_run": True}, {"limit_train_batches": 1}])
def test_7551_layers_that_the_only_batch_calls_past_their_module(workspace, given):
    """They round in it, and teach their ranges."""
    seen, callback = [], qat(workspace, tuning=LOOSE)
    look = Noting(on_train_end=lambda *_: seen.append(callback._fit.training.state()["ranges"]))
    fit(callback, InPieces(), look, **{"max_epochs": 1, **given})
    assert seen[0]["high"].isfinite().all()
    assert callback.result.int8_ops == ("net.enc", "net.head")


def test_11047_masks_of_torchs_own_pruning_are_kept(workspace):
    """``ModelPruning`` and the training for int8 could not be combined."""
    callback, module = qat(workspace), ConvLit()
    prune.l1_unstructured(module.net[0], "weight", 0.5)
    prune.random_unstructured(module.net[3].conv, "weight", 0.3)
    gone = module.net[0].weight == 0
    trained(callback, module)
    assert callback.result.status == "met"
    assert torch.equal(module.net[0].weight == 0, gone)
    assert int8_zeros(workspace)[gone].all()
    assert not int8_zeros(workspace)[~gone].all()


def int8_zeros(workspace):
    """Return where the first weight of the int8 model is zero."""
    held = torch.load(workspace / "best_model_weights.pt", weights_only=True)
    return held["net.0.lpot_int8.kernel.weight"] == 0


def test_11047_lightnings_pruning_in_the_same_list(workspace):
    """Its masks are made anew in every epoch, while the model rounds."""
    for first in (True, False):
        callback, module = qat(workspace), Lit(lr=0.01)
        pruning = ModelPruning(
            "l1_unstructured",
            [(module.net[0], "weight")],
            amount=0.2,
            use_lottery_ticket_hypothesis=False,
        )
        both = [callback, pruning] if first else [pruning, callback]
        trainer(*both, max_epochs=2).fit(module, train_loader(), val_loader())
        assert callback.result.status == "met"
        assert (module.net[0].weight == 0).float().mean() > 0.2


def test_11047_masks_that_a_callback_keeps_in_place(workspace):
    """As a pruning callback does that multiplies the weights after each step."""

    def keep(one, module, *_):
        module.net[0].weight.data.mul_(mask)

    mask = (torch.rand(8, 1, 3, 3) < 0.5).float()
    callback, module = qat(workspace), ConvLit()
    masks = Noting(on_train_start=keep, on_train_batch_end=keep)
    trained(callback, module, masks)
    assert not module.net[0].weight[mask == 0].any()
    assert int8_zeros(workspace)[mask == 0].all()


@pytest.mark.usefixtures("with_graphs")
def test_12890_a_norm_learns_while_it_trains_and_is_fused_in_the_end(workspace):
    """It was folded into the convolution before the training, as for inference."""

    def learns(one, module, *_):
        slopes.append(module.net[1].weight.grad.abs().sum().item())

    slopes, means = [], []
    look = Noting(
        on_before_optimizer_step=learns,
        on_train_epoch_end=lambda _, module: means.append(module.net[1].running_mean.clone()),
    )
    callback = qat(workspace, freeze_batch_norm=3)
    trained(callback, None, look)
    assert all(slopes[:18])  # three epochs
    assert [torch.equal(*pair) for pair in pairwise(means)] == [False, False, True]
    model = callback.result.model
    outputs(model)
    assert programs_of(model)["net"]
    assert not any("batch_norm" in one.code for one in programs_of(model)["net"])


class Wild(ConvLit):
    """Can be shown validation data that is nothing like that of the training."""

    def __init__(self, times=1.0):
        super().__init__()
        self.times = times

    def validation_step(self, batch, batch_idx):
        super().validation_step([batch[0] * self.times, batch[1]], batch_idx)


def test_8507_validation_and_sanity_check_teach_the_ranges_nothing(tmp_path, workspace):
    """Observers counted what validation and the sanity check showed them."""
    found = []
    for times in (1.0, 1000.0):
        torch.manual_seed(0)
        saved = checkpoints(tmp_path / str(times))
        given = {"num_sanity_val_steps": 2, "val_check_interval": 2, "max_epochs": 2}
        callback = qat(workspace, monitor="val_acc", tuning={"exit_policy": {"max_trials": 1}})
        _, module = trained(callback, Wild(times), saved, **given)
        found.append((ranges_in(saved.last_model_path), weights_of(module)))
    (calm, one), (wild, other) = found
    assert same(calm, wild)
    assert same(one, other)


def test_8540_nothing_is_seen_before_the_first_batch(workspace):
    """Nor does the search for what can be int8 leave ranges behind."""
    callback, found = qat(workspace), []
    look = Noting(on_train_start=lambda *_: found.append(callback._fit.training.state()["ranges"]))
    trained(callback, None, look, num_sanity_val_steps=2, max_epochs=1)
    assert torch.equal(found[0]["low"], torch.full_like(found[0]["low"], torch.inf))


def test_7552_the_trained_module_can_be_exported(workspace):
    """The export dropped what was wrapped around the model."""
    _, module = trained(qat(workspace), max_epochs=1)
    x = images(4, 2).tensors[0]
    exported = torch.export.export(module.net.eval(), (x,)).module()
    assert torch.allclose(exported(x), outputs(module, x), atol=1e-6)


class Elsewhere(ConvLit):
    """Keeps its backbone two modules deep."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict({"trunk": nn.ModuleList([self.net[:-1]]), "top": self.net[-1]})
        del self.net

    def forward(self, x):
        return self.parts["top"](self.parts["trunk"][0](x))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.acc(self(batch[0]), batch[1])
        self.log("val_acc", self.acc)


def test_10793_and_10909_any_attribute_may_hold_the_network(workspace):
    """It had to be called ``model``, and the Trainer needed a state of its own for it."""
    callback = qat(workspace, modules=["parts.trunk.0"])
    one, _ = trained(callback, Elsewhere())
    assert callback.result.int8_ops
    assert all(op.startswith("parts.trunk.0.") for op in callback.result.int8_ops)
    assert (one.state.fn, one.state.status) == ("fit", "finished")


def test_21425_the_precision_is_the_users(workspace):
    """Quantization as a precision plugin leaves no room for another precision."""
    seen = []
    look = Noting(on_train_start=lambda one, _: seen.append(type(one.precision_plugin).__name__))
    callback = qat(workspace)
    trained(callback, None, look, precision="bf16-mixed")
    assert seen == ["MixedPrecision"]
    assert callback.result.status == "met"


# -- torch.ao, torchvision, torchao and others --------------------------------------------------


class Upwards(ConvLit):
    """Has weights with one scale a channel, and others with one for all."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(4, 4, 2, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            nn.Linear(16, KINDS),
        )  # fmt: skip


@pytest.mark.parametrize("kind", [ConvLit, Upwards])
def test_pytorch_33830_and_32691_ranges_and_scales_have_their_sizes_before_they_load(
    tmp_path, workspace, kind
):
    """Buffers that are resized at the first batch did not load; nor did another scheme's."""
    saved, callback = checkpoints(tmp_path / "saved"), qat(workspace, tuning=LOOSE)
    trained(callback, kind(), saved, max_epochs=1)
    for form in ("fake_quant", "int8"):
        assert torch.isfinite(
            outputs(lpot_lightning.load_from_checkpoint(kind, saved.last_model_path, form))
        ).all()
    restored = lpot_lightning.load_from_checkpoint(kind, workspace / "best_quantized.ckpt")
    assert torch.equal(outputs(restored), outputs(callback.result.model))


def test_pytorch_51216_the_module_can_be_copied_while_it_trains(workspace):
    """As callbacks do that keep an average: the copy computes with its own weights."""

    def copy_it(one, module, *_):
        second, x = copy.deepcopy(module.net), images(8, 2).tensors[0]
        modes.append(all(part.training for part in second.modules()))
        assert torch.equal(outputs(second, x), outputs(module.net, x))
        module.train()
        with torch.no_grad():
            for value in second.parameters():
                value.zero_()
        for path, shape in shapes.items():
            sizes.append(second.get_submodule(path)(torch.ones(2, *shape)).abs().max().item())

    shapes = {"": (1, 8, 8), "0": (1, 8, 8), "3.conv": (8, 8, 8), "6": (32,)}
    modes, sizes = [], []
    # one batch, in which nothing is frozen yet
    noting = Noting(on_train_epoch_end=copy_it)
    trained(qat(workspace), None, noting, max_epochs=1, limit_train_batches=1)
    assert modes == [True]
    assert sizes == [0.0] * 4


class Branching(ConvLit):
    """Decides by the values of its data, which cannot be traced."""

    def __init__(self):
        super().__init__()
        self.net = Unsure(self.net)


class Unsure(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.body, self.head = net[:-1], net[-1]

    def forward(self, x):
        found = self.body(x)
        return self.head(found if found.sum() > 0 else -found)


@pytest.mark.parametrize("issue", ["pytorch 118634, 74842 and 87344"])
def test_a_model_that_cannot_be_traced_as_a_whole_trains_in_parts(workspace, issue):
    callback = qat(workspace)
    trained(callback, Branching())
    assert {"net.body.0", "net.body.3.conv", "net.head"} <= set(callback.result.int8_ops)


@pytest.mark.parametrize("issue", ["pytorch 151726 and 103681"])
def test_train_and_eval_work_while_it_trains(workspace, issue):
    """Exported models refuse both, and have their dropout baked in."""

    class Dropping(ConvLit):
        def __init__(self):
            super().__init__()
            self.net.insert(6, nn.Dropout(0.5))

    def look(one, module, *_):
        x = images(8, 2).tensors[0]
        with torch.random.fork_rng(), torch.no_grad():
            means = module.net[1].running_mean.clone()
            twice = [module.eval().net(x) for _ in range(2)]
            same_mean = torch.equal(means, module.net[1].running_mean)
            drawn = [module.train().net(x) for _ in range(2)]
            module.net[1].running_mean.copy_(means)
        seen.append((torch.equal(*twice), same_mean, torch.equal(*drawn)))

    seen = []
    trained(qat(workspace), Dropping(), Noting(on_train_epoch_end=look), max_epochs=2)
    assert seen == [(True, True, False)] * 2


@pytest.mark.parametrize("issue", ["ao 4886 and 4936, pytorch 143954"])
def test_a_checkpoint_holds_all_that_the_rounding_needs(tmp_path, workspace, issue):
    """A copy of the training that is made from the file computes the same to the last bit."""
    saved, found = checkpoints(tmp_path / "saved"), []

    def look(one, module):
        found.append(outputs(module))
        module.train()

    trained(qat(workspace), None, saved, Noting(on_train_end=look), max_epochs=2)
    loaded = lpot_lightning.load_from_checkpoint(ConvLit, saved.last_model_path, "fake_quant")
    assert torch.equal(outputs(loaded), found[0])


class Remembering(ConvLit):
    """Makes a buffer when it is first called, and trains with it."""

    def __init__(self):
        super().__init__()
        self.weights = None

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1], self._weights(batch))

    def validation_step(self, batch, batch_idx):
        self._weights(batch)
        super().validation_step(batch, batch_idx)

    def _weights(self, batch):
        if self.weights is None:
            self.weights = torch.ones(KINDS, device=batch[0].device)
        return self.weights


@pytest.mark.parametrize("issue", ["luxonis-train 406, aimet 2026, sparseml 1492"])
def test_a_validation_before_the_fit_leaves_no_inference_tensors(workspace, issue):
    """Autograd refuses what was made in inference mode, as ``trainer.validate`` runs in."""
    callback, module = qat(workspace), ConvLit()
    one = trainer(callback, max_epochs=1)
    one.validate(module, val_images(), verbose=False)
    one.fit(module, train_images(), val_images())
    assert callback.result.int8_ops
    assert not any(value.is_inference() for value in module.state_dict().values())
    trainer(max_epochs=1).fit(module, train_images(), val_images())
