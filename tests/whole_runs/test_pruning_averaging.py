"""Weights that another callback averages while they are pruned."""

import copy
import logging

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import (
    EMAWeightAveraging,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lit_scenes import same, train_loader, val_loader, weights_of
from qat_scenes import ConvLit, train_images, val_images
from sparse_scenes import (
    WEIGHTS,
    Rolling,
    Seen,
    checkpoints,
    halved,
    pruned,
    pruning,
    state_in,
    weights_at,
    weights_in,
    zeros,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*`update_bn`"),
]


class Epochwise(WeightAveraging):
    """Averages when an epoch is over."""

    def should_update(self, step_idx=None, epoch_idx=None):
        return epoch_idx is not None


AVERAGES = {
    "swa": lambda: StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1),
    "average": WeightAveraging,
    "ema": lambda: EMAWeightAveraging(decay=0.9),
    "epochs": Epochwise,
}
EITHER = pytest.mark.parametrize("first", [True, False], ids=["pruning first", "average first"])
ALL = pytest.mark.parametrize("average", AVERAGES.values(), ids=AVERAGES)


def fit(callback, average, first, *others, module=None, **given):
    torch.manual_seed(0)
    before, after = ((), (average,)) if first else ((average,), ())
    return pruned(callback, module or Rolling(), *after, *others, first=before, **given)[1]


@ALL
@EITHER
def test_the_average_has_the_zeros_of_a_schedule_in_steps(workspace, average, first):
    average, seen = average(), Seen()
    steps = {"start_epoch": None, "end_epoch": None, "start_step": 2, "end_step": 9}
    callback = pruning(workspace, **steps)
    module = fit(callback, average, first, seen)
    averaged = weights_in(held(average))
    assert halved(averaged)
    assert same(averaged, weights_in(module))
    assert callback.result.reached
    assert 0 < zeros(seen.batches[4])[WEIGHTS[0]] < 0.5


def held(average):
    found = average._average_model
    return getattr(found, "module", found)


@ALL
@EITHER
def test_the_average_has_the_zeros(tmp_path, workspace, average, first):
    """The module, what is validated, each checkpoint, and what is judged."""
    average, seen, saved = average(), Seen(), checkpoints(tmp_path / "saved")
    callback = pruning(workspace)
    module = fit(callback, average, first, seen, saved)
    averaged = weights_in(held(average))
    assert halved(averaged)
    assert same(averaged, weights_in(module))
    shares = [round(min(zeros(one).values()), 2) for one in seen.validated]
    assert shares == [0.0, 0.25, 0.5, 0.5]
    assert all(map(halved, seen.batches[8:]))
    for path in (tmp_path / "saved").glob("*.ckpt"):
        epoch = torch.load(path, weights_only=True)["epoch"]
        assert round(min(zeros(weights_at(path)).values()), 2) == [0.0, 0.25, 0.5, 0.5][epoch]
    assert same(weights_in(callback.result.model), averaged)
    assert callback.result.reached


@ALL
def test_the_average_is_one_of_several_weights(workspace, average):
    """It is not the last weights by another name."""
    average, seen = average(), Seen()
    module = fit(pruning(workspace), average, True, seen)
    assert not same(weights_in(module), seen.batches[-1])


@EITHER
def test_a_norm_that_swa_renews_in_one_more_epoch(workspace, first):
    class Flat(ConvLit):
        def on_train_end(self):
            self.counted = int(self.net[1].num_batches_tracked)

    data = (train_images(48), val_images(24))
    callback = pruning(workspace, end_epoch=1)
    module = fit(callback, AVERAGES["swa"](), first, module=Flat(), max_epochs=2, data=data)
    assert module.counted == 3
    assert all(abs(share - 0.5) < 0.02 for share in zeros(module).values())
    assert callback.result.reached


@pytest.mark.filterwarnings("ignore:The dirpath has changed from")
@pytest.mark.parametrize("name", ["average", "ema"])
@EITHER
def test_a_fit_that_goes_on_ends_the_same(tmp_path, workspace, name, first):
    whole = checkpoints(tmp_path / "whole")
    data = {"data": (train_loader(64, shuffle=False), val_loader(24))}
    expected = fit(pruning(workspace), AVERAGES[name](), first, whole, **data)
    (path,) = (tmp_path / "whole").glob("epoch=1-*")
    callback = pruning(workspace)
    again = checkpoints(tmp_path / "again")
    module = fit(callback, AVERAGES[name](), first, again, ckpt_path=str(path), **data)
    assert same(weights_of(module), weights_of(expected))
    last, told = (weights_at(tmp_path / one / "last.ckpt") for one in ("again", "whole"))
    assert same(last, told)
    assert set(state_in(tmp_path / "again/last.ckpt")["pruner"]["masks"]) == set(WEIGHTS)


def test_the_average_is_what_the_dense_baseline_was_measured_of(workspace):
    """Validated weights are the average's, before pruning began, too."""
    seen = Seen()
    callback = pruning(workspace, start_epoch=2)
    fit(callback, EMAWeightAveraging(decay=0.9), True, seen)
    assert zeros(seen.validated[1]) == dict.fromkeys(WEIGHTS, 0.0)
    assert callback.result.status == "met"


# -- averages of the user's own -------------------------------------------------------------------


class Own(pl.Callback):
    """An average that no callback of Lightning's keeps; checkpoints hold it."""

    def __init__(self, callback, of, masked):
        self.callback, self.of, self.masked = callback, of, masked

    def on_fit_start(self, trainer, module):
        self.average = copy.deepcopy(module.get_submodule(self.of))

    @torch.no_grad()
    def on_train_batch_end(self, trainer, module, *_):
        now = module.get_submodule(self.of).parameters()
        for mean, one in zip(self.average.parameters(), now, strict=True):
            mean.lerp_(one, 0.2)
        if self.masked:
            self.callback.masks.apply_to(self.average)

    def on_save_checkpoint(self, trainer, module, checkpoint):
        mean = self.average.state_dict(prefix=f"{self.of}." if self.of else "")
        checkpoint["state_dict"].update({name: one.clone() for name, one in mean.items()})


@pytest.mark.parametrize("of", ["", "net"])
def test_an_average_of_ones_own_is_judged_where_it_is_masked(tmp_path, workspace, of, caplog):
    caplog.set_level(logging.INFO)
    callback, saved = pruning(workspace), checkpoints(tmp_path / "saved")
    own = Own(callback, of, masked=True)
    _, module = pruned(callback, None, own, saved)
    assert f"judging the weights of `{saved.best_model_path}`" in caplog.text
    assert halved(own.average)
    judged = callback.result.model.net[0].weight
    assert torch.equal(judged, own.average.get_parameter("0.weight" if of else "net.0.weight"))
    assert not torch.equal(judged, module.net[0].weight)


def test_an_average_that_is_not_masked_is_told_as_such(tmp_path, workspace, caplog):
    """It is of the target epoch, and not from before it."""
    caplog.set_level(logging.INFO)
    callback, saved = pruning(workspace), checkpoints(tmp_path / "saved")
    pruned(callback, None, Own(callback, "net", masked=False), saved)
    assert (
        f"`{saved.best_model_path}` was pruned as far, and holds weights that the masks were not"
        " applied to, as an average of your own: `callback.masks.apply_to(average)` does it: judg"
    ) in caplog.text
    assert halved(callback.result.model)


class SavesOthers(Rolling):
    def on_save_checkpoint(self, checkpoint):
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: one + 1 for name, one in state.items()}


def test_a_checkpoint_without_masks_is_told_as_such(tmp_path, workspace, caplog):
    caplog.set_level(logging.INFO)
    saved = checkpoints(tmp_path / "saved", save_weights_only=True)
    pruned(pruning(workspace), SavesOthers(), saved)
    told = "has no masks, and not all the zeros of the pruned model: judging the current weights"
    assert f"`{saved.best_model_path}` {told}" in caplog.text


class ScheduleFree(torch.optim.Optimizer):
    """SGD as of Defazio et al., "The road less scheduled", 2024: it evaluates by an average."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr, "beta": 0.9, "step": 0, "train": True})

    @torch.no_grad()
    def step(self, closure=None):
        loss = closure()
        for group in self.param_groups:
            group["step"] += 1
            for y in (one for one in group["params"] if one.grad is not None):
                z = self.state[y].setdefault("z", y.clone())
                x = (y - (1 - group["beta"]) * z) / group["beta"]
                z.sub_(y.grad, alpha=group["lr"])
                x.lerp_(z, 1 / group["step"])
                y.copy_(x.lerp_(z, 1 - group["beta"]))
        return loss

    @torch.no_grad()
    def swap(self, train):
        for group in self.param_groups:
            share = 1 - group["beta"]
            for y in group["params"] if group["train"] != train else ():
                z = self.state[y].get("z", y)
                y.copy_(y.lerp(z, share) if train else (y - share * z) / (1 - share))
            group["train"] = train


class Free(Rolling):
    """Puts the weights back that it trains with when the hook ``back`` is called."""

    def __init__(self, back):
        super().__init__()
        setattr(self, back, lambda *_: self.optimizers().optimizer.swap(train=True))

    def configure_optimizers(self):
        return ScheduleFree(self.parameters(), 0.05)

    def on_validation_epoch_start(self):
        self.optimizers().optimizer.swap(train=False)


@pytest.mark.parametrize(
    ("back", "saved_when"),
    [
        ("on_train_batch_start", {}),
        ("on_validation_epoch_end", {"save_on_train_epoch_end": False}),
        ("on_validation_end", {"save_on_train_epoch_end": True}),
    ],
)
def test_what_a_schedule_free_optimizer_puts_in_place_is_masked(
    tmp_path, workspace, back, saved_when
):
    callback, seen = pruning(workspace), Seen()
    saved = checkpoints(tmp_path / "saved", **saved_when)
    one, module = pruned(callback, Free(back), seen, saved)
    shares = [zeros(weights)["net.0.weight"] for weights in seen.validated]
    assert shares == sorted(shares)
    assert halved(seen.validated[-1])
    assert halved(weights_at(saved.last_model_path))
    assert callback.result.reached
    held = one.optimizers[0].state[module.net[0].weight]["z"]
    assert not (held == 0).any()  # without the masks this is what comes back
