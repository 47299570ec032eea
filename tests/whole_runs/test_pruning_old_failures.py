"""What went wrong where others pruned, and must not here.

Numbers are threads of github.com/Lightning-AI/pytorch-lightning about ``ModelPruning``, its own
callback; D with a number is a defect of LPOT 1.x.
"""

import copy
import gc
import logging
import pickle
import weakref

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import CSVLogger
from lit_scenes import Lit, same, train_loader, trainer, val_loader, weights_of
from sparse_scenes import (
    GRADIENT,
    WEIGHTS,
    Rolling,
    Seen,
    StopsAfter,
    checkpoints,
    halved,
    pruned,
    pruning,
    pruning_conf,
    state_in,
    weights_at,
    zeros,
)
from torch import nn
from users_world import HOOKS

from lpot_lightning import PruningCallback
from lpot_lightning.errors import ConfError

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used"),
]
BOTH = pytest.mark.parametrize("kind", [{}, GRADIENT], ids=["magnitude", "sensitivity"])


# -- Lightning's own callback -------------------------------------------------------------------


@BOTH
def test_8542_a_callback_that_is_used_again_keeps_nothing(workspace, kind):
    """It kept deep copies of each model's parameters, and could not copy the second's."""
    callback, gone = pruning(workspace, kind), []
    for _ in range(3):
        module = Rolling()
        gone.append(weakref.ref(module))
        pruned(callback, module)
        del module, callback.log, callback.log_dict  # which Lightning puts there
    gc.collect()
    assert [one() for one in gone] == [None] * 3
    held = [one for one in vars(callback).values() if isinstance(one, torch.Tensor)]
    assert held == []


@BOTH
def test_8542_the_module_can_be_copied_while_it_is_pruned_and_after(workspace, kind):
    """``only Tensors created explicitly by the user support the deepcopy protocol``."""

    class Copying(pl.Callback):
        def on_train_epoch_end(self, one, module):
            copies.append(copy.deepcopy(module))

        def on_train_batch_end(self, one, module, *_):
            pickle.dumps(module)

    copies = []
    _, module = pruned(pruning(workspace, kind), None, Copying())
    assert same(weights_of(copies[-1]), weights_of(module))
    assert same(weights_of(copy.deepcopy(module)), weights_of(module))


def test_13595_the_sparsity_that_is_told_is_that_of_the_weights(tmp_path, workspace, caplog):
    """It counted zeros under names that the weights did not have any more."""
    caplog.set_level(logging.INFO)
    module = Rolling()
    with torch.no_grad():
        module.net[0].weight[0] = 0  # zeros of the user's own count
    callback = pruning(workspace, {"names": "net.0.weight"}, end_epoch=1, target_sparsity=0.25)
    pruned(callback, module, logger=CSVLogger(tmp_path, "log"), max_epochs=2)
    count = int((module.net[0].weight == 0).sum())
    assert count == 32
    (layer,) = callback.result.layers
    assert layer.sparsity * layer.elements == count
    assert f"epoch 1: {count / 128:.1%} of the weights to prune are zero" in caplog.text
    assert f",{count / 128}" in (tmp_path / "log/version_0/metrics.csv").read_text()


@BOTH
def test_6073_masks_outlive_a_checkpoint(tmp_path, workspace, kind):
    """A fit that went on trained the pruned weights again, as it had no masks."""
    saved = checkpoints(tmp_path / "saved")
    pruned(pruning(workspace, kind), None, saved, max_epochs=3)
    kept = weights_at(tmp_path / "saved/last.ckpt")
    seen = Seen()
    pruned(pruning(workspace, kind), None, seen, ckpt_path=str(tmp_path / "saved/last.ckpt"))
    for one in seen.batches:
        assert all(torch.equal(one[name] == 0, kept[name] == 0) for name in WEIGHTS)
    assert not torch.equal(seen.batches[-1][WEIGHTS[0]], kept[WEIGHTS[0]])


def test_6073_a_checkpoint_is_of_the_model_that_was_made(tmp_path, workspace):
    """Its keys ended in ``_orig`` and ``_mask``, or were rewritten when it was saved."""
    saved = checkpoints(tmp_path / "saved")
    pruned(pruning(workspace), None, saved)
    state = weights_at(tmp_path / "saved/last.ckpt")
    assert list(state) == list(Rolling().state_dict())
    loaded = Rolling.load_from_checkpoint(tmp_path / "saved/last.ckpt", weights_only=True)
    assert halved(loaded)
    trainer().test(loaded, val_loader(24), verbose=False)
    plain = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    plain.load_state_dict({name.removeprefix("net."): value for name, value in state.items()})


def test_6073_what_is_saved_of_us_are_bits_and_numbers(tmp_path, workspace):
    saved = checkpoints(tmp_path / "saved")
    pruned(pruning(workspace), None, saved)
    mask = state_in(tmp_path / "saved/last.ckpt")["pruner"]["masks"][WEIGHTS[0]]
    assert (mask["kept"].dtype, mask["kept"].numel()) == (torch.uint8, 128 // 8)


@BOTH
def test_7505_no_module_and_no_parameter_is_registered_anew(workspace, kind):
    """Masks were buffers and weights were no leaves, which DDP and copies stumble over."""

    class Looking(pl.Callback):
        def on_train_batch_end(self, one, module, *_):
            assert list(module.state_dict()) == names
            assert all(value.is_leaf for value in module.parameters())
            assert [set(vars(part)) for part in module.net.modules()] == attributes
            assert not any(getattr(part, hook) for part in module.modules() for hook in HOOKS)

    module = Rolling()
    names = list(module.state_dict())
    attributes = [set(vars(part)) for part in module.net.modules()]
    pruned(pruning(workspace, kind), module, Looking())


def test_11047_it_does_not_prune_by_the_epoch_more_and_more(workspace):
    """``amount`` was taken anew of what was left in each epoch; a target is a target."""
    module = Rolling()
    pruned(pruning(workspace, end_epoch=0), module, max_epochs=6)
    assert halved(module)


def test_a_callback_can_be_made_from_plain_values():
    """Names are texts: modules and functions in arguments could not be written in a YAML."""
    callback = PruningCallback(pruning_conf(None, {"names": "net.*"}), modules=["net"])
    assert callback.modules == ("net",)


# -- LPOT ---------------------------------------------------------------------------------------


@BOTH
def test_d3_pruned_tensors_are_trained(workspace, kind):
    """LPOT put new parameters in place of those that the optimizer knows: nothing was trained."""
    module, seen = Rolling(), Seen()
    for part in module.net[::2]:
        part.reset_parameters()
    pruned(pruning(workspace, kind), module, seen)
    for name in WEIGHTS:
        first, last = seen.batches[8][name], seen.batches[-1][name]
        assert (first != last)[last != 0].float().mean() > 0.9


def test_d3_what_else_was_lost_with_the_parameter(workspace):
    """Its type, its tie, and that it is not to be trained."""

    class Half(Lit):
        def __init__(self):
            super().__init__(0.05)
            self.net[0].weight.requires_grad_(False)
            self.twin = nn.Linear(8, 16)
            self.twin.weight = self.net[0].weight

        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self.net(batch[0]) + 0 * self.twin(batch[0]).sum(), batch[1])

    callback, module = pruning(workspace, {"names": "net.*.weight"}), Half()
    pruned(callback, module, precision="bf16-true")
    assert module.twin.weight is module.net[0].weight
    assert module.net[0].weight.dtype == torch.bfloat16
    assert not module.net[0].weight.requires_grad
    assert halved(module)


class Heads(Lit):
    """Two layers of four heads each, which a mask can switch off, given in three ways."""

    def __init__(self, how="keyword"):
        super().__init__(0.05)
        self.how = how
        self.net = Masked()
        self.mask = torch.ones(2, 4, requires_grad=True)

    def forward(self, x, mask=None):
        return self.net(x, mask)

    def training_step(self, batch, batch_idx):
        mask = self.mask if self.how == "kept" else torch.ones(2, 4, requires_grad=True)
        given = {"head_mask": mask} if self.how != "positional" else {}
        return F.cross_entropy(self.net(batch[0], *([] if given else [mask]), **given), batch[1])


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.ModuleDict({"0": nn.Linear(8, 8), "1": nn.Linear(8, 8)})
        self.last = nn.Linear(8, 3)

    def forward(self, x, head_mask=None):
        for number, layer in enumerate(self.layer.values()):
            x = layer(x)
            if head_mask is not None:
                x = x * head_mask[number].repeat_interleave(2)
            x = x.relu() + 0.1
        return self.last(x)


MASKED = {
    **GRADIENT,
    "names": "net.layer.*.weight",
    "parameters": {
        "target": 2,
        "stride": 2,
        "importance_inputs": ["head_mask"],
        "importance_metric": "abs_gradient",
    },
}


@pytest.mark.parametrize("how", ["keyword", "positional", "kept"])
def test_d4_a_head_mask_is_seen_without_reading_torchs_variables(workspace, how):
    """LPOT read local variables of torch's own code, which torch 2 does not have."""
    callback, module = (
        pruning(workspace, MASKED, tuning={"accuracy_criterion": {"absolute": 1}}),
        Heads(how),
    )
    pruned(callback, module)
    for layer in module.net.layer.values():
        rows = (layer.weight == 0).all(1).reshape(4, 2)
        assert rows.all(1).sum() == rows.any(1).sum() == 2
    assert not any(getattr(part, hook) for part in module.modules() for hook in HOOKS)
    model = callback.result.model
    assert not any(getattr(part, hook) for part in model.modules() for hook in HOOKS)
    assert not module.mask._backward_hooks


def test_d4_a_mask_that_is_the_users_own_counts_each_gradient_once(workspace):
    """The same tensor in each step: as one that is made anew."""

    class Reading(pl.Callback):
        def on_train_epoch_end(self, one, module):
            if one.current_epoch == 0:
                sums.append(one.callbacks[0].state_dict()["pruner"]["pruners"][0]["0"])

    sums, data = [], (train_loader(64, shuffle=False), val_loader(24))
    for how in ("keyword", "kept"):
        torch.manual_seed(0)
        pruned(pruning(workspace, MASKED), Heads(how), Reading(), data=data)
    assert torch.allclose(*sums, rtol=1e-5)


def test_d16_one_epoch_for_all_reaches_the_target(workspace):
    """LPOT stayed at the initial sparsity where start and end were one."""
    seen = Seen()
    pruned(pruning(workspace, start_epoch=1, end_epoch=1), None, seen, max_epochs=2)
    assert [zeros(one)[WEIGHTS[0]] for one in seen.validated] == [0.0, 0.5]


def test_d16_a_frequency_that_does_not_divide_reaches_the_target(workspace):
    seen = Seen()
    pruned(pruning(workspace, {"update_frequency": 2}, end_epoch=3), None, seen)
    shares = [zeros(one)[WEIGHTS[0]] for one in seen.validated]
    assert shares == pytest.approx([0.0, 0.0, 1 / 3, 0.5], abs=0.01)


def test_d16_zeros_that_are_given_are_taken(workspace):
    """LPOT took an explicit 0 for "not given"."""
    seen = Seen()
    pruner = {"names": "net.0.weight", "target_sparsity": 0.0, "initial_sparsity": 0}
    callback = pruning(workspace, pruner, {"names": "net.2.weight"}, target_sparsity=0.75)
    pruned(callback, None, seen)
    assert zeros(seen.batches[-1]) == {WEIGHTS[0]: 0.0, WEIGHTS[1]: 0.75}
    with pytest.raises(ConfError, match="update_frequency` is `0`; allowed: a whole number in"):
        pruning(workspace, {"update_frequency": 0})


def test_d16_exactly_as_many_as_asked_for(workspace):
    """LPOT took one more, and all that are equal to it; everything made it fail."""

    class Flat(Rolling):
        def __init__(self):
            super().__init__(0.0)
            nn.init.constant_(self.net[0].weight, 0.5)

    for target in (0.125, 1.0):
        module = Flat()
        pruner = {"names": "net.0.weight", "target_sparsity": target}
        pruned(pruning(workspace, pruner, end_epoch=0), module, max_epochs=1)
        assert zeros(module)[WEIGHTS[0]] == target


@pytest.mark.parametrize(
    "pruner",
    [{"method": "per_channel"}, {"pattern": "tile_pattern_1x2"}, {"pattern": "2:4"}],
    ids=lambda pruner: next(iter(pruner.values())),
)
def test_d16_methods_and_patterns_of_the_yaml_are_obeyed(workspace, pruner):
    module = Rolling()
    pruned(pruning(workspace, {"names": "net.0.weight", **pruner}), module)
    gone = module.net[0].weight == 0
    assert gone.float().mean() == 0.5
    if "method" in pruner:
        assert (gone.sum(1) == 4).all()
    elif pruner["pattern"] == "2:4":
        assert (gone.reshape(-1, 4).sum(1) == 2).all()
    else:
        assert torch.equal(gone.reshape(-1, 2).all(1), gone.reshape(-1, 2).any(1))


def test_d16_heads_are_zeroed_again_in_each_epoch_and_hooks_are_gone(workspace):
    """LPOT cut a weight that it had cut before, and left its hooks in the model."""
    pruner = {**MASKED, "parameters": {**MASKED["parameters"], "target": 1}}
    callback, module, seen = pruning(workspace, pruner, end_epoch=3), Heads(), Seen()
    pruned(callback, module, seen)
    heads = [int((one["net.layer.0.weight"] == 0).all(1).sum()) // 2 for one in seen.validated]
    assert heads == [0, 1, 2, 3]
    assert [one.pattern for one in callback.result.layers] == ["rows x 2"] * 2


@pytest.mark.parametrize(("baseline", "status"), [(0.1, "met"), (5.0, "not_met")])
def test_d32_the_criterion_is_checked(workspace, baseline, status):
    """LPOT documented one, and compared with nothing."""
    callback = pruning(workspace, baseline=baseline)
    pruned(callback)
    result = callback.result
    assert (result.status, result.reached) == (status, True)
    assert result.drop == pytest.approx((baseline - result.accuracy) / baseline)


def test_d32_a_good_model_that_is_too_dense_is_not_met(workspace):
    callback = pruning(workspace, end_epoch=8)
    with pytest.warns(UserWarning, match="the training ended in epoch 1"):
        pruned(callback, None, StopsAfter(8), max_epochs=9)
    assert callback.result.drop <= 0.01
    assert callback.result.status == "not_met"
