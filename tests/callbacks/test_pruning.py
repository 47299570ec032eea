"""A fit that prunes, and what it ends with."""

import contextlib
import copy
import gc
import json
import logging
import pickle
import weakref

import lightning.pytorch as pl
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import EarlyStopping, GradientAccumulationScheduler
from lightning.pytorch.loggers import CSVLogger
from lit_scenes import files_in, same, train_loader, trainer, val_loader, weights_of
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
    weights_in,
    zeros,
)
from users_world import HOOKS, kept, watched

import lpot_lightning
from lpot_lightning import PruningCallback
from lpot_lightning.errors import ArtifactError, PruningError
from lpot_lightning.runs.pruning_result import read_pruning_result

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
FILES = [
    "pruned_configure.yaml",
    "pruned_model_weights.pt",
    "pruning_result.json",
    "report.html",
]
BOTH = pytest.mark.parametrize("kind", [{}, GRADIENT], ids=["magnitude", "sensitivity"])


def accuracy(module):
    (found,) = trainer().validate(module, val_loader(24), verbose=False)
    return found["val_acc"]


# -- while it trains ----------------------------------------------------------------------------


@BOTH
def test_the_schedule_epoch_by_epoch(workspace, kind):
    seen, callback = Seen(), pruning(workspace, kind)
    pruned(callback, None, seen)
    shares = [tuple(zeros(weights).values()) for weights in seen.validated]
    assert shares == [(0.0, 0.0), (0.25, 0.25), (0.5, 0.5), (0.5, 0.5)]


@BOTH
def test_what_is_pruned_stays_zero_and_the_rest_is_trained(workspace, kind):
    seen = Seen()
    pruned(pruning(workspace, kind), None, seen)
    for before, after in zip(seen.batches, seen.batches[1:], strict=False):
        for name in WEIGHTS:
            gone = before[name] == 0
            assert (after[name][gone] == 0).all()
            assert (before[name] != after[name])[~gone].any()


def test_every_validation_is_of_the_masked_weights(workspace):
    seen = Seen()
    pruned(pruning(workspace, end_epoch=0), None, seen, val_check_interval=2)
    assert len(seen.validated) == 8
    assert all(map(halved, seen.validated))


def test_momentum_of_before_does_not_bring_weights_back(workspace):
    """A dense epoch fills the momentum; the mask comes before the next step."""

    class Watching(Rolling):
        def on_train_batch_end(self, *_):
            moving = self.optimizers().optimizer.state[self.net[0].weight]["momentum_buffer"]
            found.append(bool((moving[self.net[0].weight == 0] != 0).any()))

    found, seen = [], Seen()
    pruned(pruning(workspace, start_epoch=1, end_epoch=1), Watching(), seen, max_epochs=3)
    assert any(found)
    assert all(map(halved, seen.batches[4:]))


@BOTH
def test_parameters_stay_the_same_objects(workspace, kind):
    class Held(Rolling):
        def configure_optimizers(self):
            self.held = [*self.parameters()]
            return super().configure_optimizers()

    one, module = pruned(pruning(workspace, kind), Held())
    assert all(a is b for a, b in zip(module.held, module.parameters(), strict=True))
    groups = one.optimizers[0].param_groups
    assert all(a is b for a, b in zip(module.held, groups[0]["params"], strict=True))


def test_the_module_is_as_before_but_for_its_weights(workspace):
    module = Rolling()
    before = copy.deepcopy(module)
    callback = pruning(workspace, GRADIENT)
    pruned(callback, module)
    assert list(module.state_dict()) == list(before.state_dict())
    assert [set(vars(part)) for part in module.net.modules()] == [
        set(vars(part)) for part in before.net.modules()
    ]
    assert not any(len(getattr(part, name)) for part in module.modules() for name in HOOKS)
    assert callback.masks is None


def test_masks_are_to_be_read_while_it_trains(workspace):
    class Reading(pl.Callback):
        def on_train_epoch_end(self, trainer, module):
            found.append(float(callback.masks.pruned("net.0.weight").float().mean()))

    found, callback = [], pruning(workspace)
    pruned(callback, None, Reading())
    assert found == [0.0, 0.25, 0.5, 0.5]


def test_what_is_told_and_logged(tmp_path, workspace, caplog):
    caplog.set_level(logging.INFO)
    pruned(pruning(workspace), logger=CSVLogger(tmp_path, "log"))
    assert "epoch 1: 25.0% of the weights to prune are zero" in caplog.text
    assert "epoch 2: 50.0% of the weights to prune are zero" in caplog.text
    text = (tmp_path / "log/version_0/metrics.csv").read_text()
    assert {"lpot/sparsity", "lpot/parameters", "lpot/pruned_accuracy", "lpot/baseline"} <= set(
        text.splitlines()[0].split(",")
    )
    assert ",0.5" in text


def test_random_numbers_are_those_of_a_fit_without_us(workspace):
    class Noted(Rolling):
        def training_step(self, batch, batch_idx):
            drawn.append((torch.rand(()).item(), batch[0].sum().item()))
            return super().training_step(batch, batch_idx)

    seen = []
    for callbacks in ([], [pruning(workspace)]):
        drawn = []
        torch.manual_seed(3)
        trainer(*callbacks, max_epochs=3).fit(Noted(), train_loader(64), val_loader(24))
        seen.append(drawn)
    assert seen[0] == seen[1]


def test_a_target_of_zero_changes_nothing(workspace):
    """Masks that hold nothing leave each bit of a training as it is."""
    ends = []
    for callbacks in ([], [pruning(workspace, target_sparsity=0.0)]):
        torch.manual_seed(3)
        module = Rolling()
        trainer(*callbacks, max_epochs=3).fit(module, train_loader(64), val_loader(24))
        ends.append(weights_of(module))
    assert same(*ends)


# -- what it ends with --------------------------------------------------------------------------


@BOTH
def test_a_fit_ends_with_a_result_and_its_files(workspace, kind):
    callback = pruning(workspace, kind)
    assert callback.result is None
    _, module = pruned(callback)
    result = callback.result
    assert (result.status, result.reached, result.monitor) == ("met", True, "val_acc")
    assert [(one.name, one.sparsity, one.target) for one in result.layers] == [
        (name, 0.5, 0.5) for name in WEIGHTS
    ]
    assert result.sparsity == 0.5
    assert result.workspace == workspace
    assert files_in(workspace) == FILES
    assert accuracy(result.model) == pytest.approx(result.accuracy)
    assert same(weights_of(result.model.net), weights_of(module.net))
    assert not any(one is two for one in result.model.parameters() for two in module.parameters())
    assert "50.00% of the pruned weights" in result.table()


def test_the_files_give_the_model_back(workspace):
    callback = pruning(workspace)
    pruned(callback)
    result = callback.result
    restored = lpot_lightning.load(workspace / FILES[0], workspace / FILES[1], Rolling())
    assert same(weights_of(restored), weights_of(result.model))
    assert not restored.training
    told = yaml.safe_load((workspace / FILES[0]).read_text())
    assert told["sparsity"]["total"] == result.sparsity
    assert told["accuracy"]["baseline"] == result.baseline
    assert told["accuracy"]["met"] is True
    assert json.loads((workspace / FILES[2]).read_text())["status"] == "met"
    trainer().test(restored, val_loader(), verbose=False)
    with pytest.raises(ArtifactError, match="SHA-256"):
        lpot_lightning.load(workspace / FILES[0], workspace / FILES[2], Rolling())


def test_several_pruners(workspace):
    callback = pruning(
        workspace,
        {"names": "net.0.weight", "target_sparsity": 0.75, "end_epoch": 1},
        {"names": "net.2.*", "pattern": "2:4", "start_epoch": 2, "end_epoch": 3},
    )
    seen = Seen()
    pruned(callback, None, seen)
    shares = [tuple(zeros(weights).values()) for weights in seen.validated]
    assert shares == [(0.0, 0.0), (0.75, 0.0), (0.75, 0.0), (0.75, 0.5)]
    assert [one.pattern for one in callback.result.layers] == ["tile_pattern_1x1", "2:4"]
    runs = seen.validated[-1]["net.2.weight"].reshape(-1, 4)
    assert ((runs == 0).sum(1) == 2).all()


def test_only_the_modules_that_are_named(workspace):
    callback = pruning(workspace, modules=["net.2"])
    _, module = pruned(callback)
    assert zeros(module) == {"net.0.weight": 0.0, "net.2.weight": 0.5}
    assert [one.name for one in callback.result.layers] == ["net.2.weight"]


def test_a_pattern_that_is_locked(workspace):
    """As for a model that was pruned, and is trained for another task."""
    _, module = pruned(pruning(None))
    before = weights_in(module)
    fresh = Rolling()
    fresh.load_state_dict(module.state_dict())
    callback = pruning(workspace, {"prune_type": "pattern_lock"})
    seen = Seen()
    pruned(callback, fresh, seen, max_epochs=1)
    for one in seen.batches:
        assert all(torch.equal(one[name] == 0, before[name] == 0) for name in WEIGHTS)
    assert not torch.equal(seen.batches[-1]["net.0.weight"], before["net.0.weight"])
    assert (callback.result.status, callback.result.sparsity) == ("met", 0.5)


def test_heads_that_are_zeroed(workspace):
    asked = {"target": 4, "stride": 2}
    callback = pruning(workspace, {**GRADIENT, "names": "net.0.*", "parameters": asked})
    _, module = pruned(callback)
    rows = (module.net[0].weight == 0).all(1).reshape(8, 2)
    assert rows.all(1).sum() == 4
    assert torch.equal(rows.all(1), rows.any(1))
    assert (module.net[0].bias == 0).sum() == 8
    assert callback.result.reached


def test_a_model_that_loses_too_much(workspace):
    callback = pruning(workspace, target_sparsity=1.0, end_epoch=0)
    pruned(callback, max_epochs=1)
    result = callback.result
    assert (result.status, result.reached) == ("not_met", True)
    assert result.accuracy < 0.5 < result.baseline
    assert result.drop == pytest.approx((result.baseline - result.accuracy) / result.baseline)
    assert "not_met" in result.table()


@pytest.mark.parametrize(
    ("absolute", "status"), [(0.2, "met"), (-0.2, "not_met")], ids=["loose", "strict"]
)
def test_the_criterion_decides(workspace, absolute, status):
    callback = pruning(workspace, tuning={"accuracy_criterion": {"absolute": absolute}})
    pruned(callback)
    assert callback.result.status == status


# -- the dense model ----------------------------------------------------------------------------


def test_the_baseline_is_that_of_the_weights_the_fit_begins_with(workspace):
    module = Rolling(lr=0.0)
    callback = pruning(workspace, target_sparsity=1.0, end_epoch=0)
    pruned(callback, module, max_epochs=1)
    assert callback.result.baseline == pytest.approx(accuracy(Rolling()))


def test_the_baseline_is_the_best_that_was_seen_before_pruning_began(workspace):
    """An untrained model becomes good first, and is pruned then."""
    module = Rolling()
    torch.manual_seed(1)
    for part in module.net[::2]:
        part.reset_parameters()
    start = accuracy(module)
    callback = pruning(workspace, start_epoch=3, end_epoch=4, target_sparsity=1.0)
    pruned(callback, module, max_epochs=5)
    assert start < 0.9 < callback.result.baseline
    assert callback.result.status == "not_met"


def test_what_comes_after_pruning_began_is_no_baseline(workspace):
    module = Rolling(lr=0.05)
    torch.manual_seed(1)
    for part in module.net[::2]:
        part.reset_parameters()
    start = accuracy(module)
    callback = pruning(workspace, initial_sparsity=0.1)
    pruned(callback, module)
    assert callback.result.accuracy > start
    assert callback.result.baseline == pytest.approx(start)


def test_a_baseline_that_is_given_is_not_measured(workspace):
    seen = Seen()
    callback = pruning(workspace, baseline=0.3)
    pruned(callback, None, seen)
    assert callback.result.baseline == 0.3
    assert len(seen.validated) == 4


def test_the_world_around_the_judging_is_as_before(workspace):
    class Watched(PruningCallback):
        def on_fit_start(self, one, module):
            with kept(one, module):
                super().on_fit_start(one, module)

    callback = watched(Watched(pruning_conf(workspace, GRADIENT)))
    pruned(callback)
    assert callback.watched == 1
    assert callback.result.status == "met"


# -- checkpoints and stopping -------------------------------------------------------------------


class Sinking(Rolling):
    """Is best in its first epoch, by a number of its own."""

    def on_validation_epoch_end(self):
        self.log("worth", -float(self.current_epoch))


def test_the_best_checkpoint_is_a_pruned_one(tmp_path, workspace, caplog):
    caplog.set_level(logging.INFO)
    saved = checkpoints(tmp_path / "saved", monitor="worth", mode="max", save_top_k=1)
    callback = pruning(workspace, monitor="val_acc")
    pruned(callback, Sinking(), saved, max_epochs=5)
    assert "epoch=2" in saved.best_model_path
    assert halved(weights_at(saved.best_model_path))
    assert "epoch 2: the target sparsity is reached: `ModelCheckpoint` looks for" in caplog.text
    assert f"judging the weights of `{saved.best_model_path}`" in caplog.text
    best = weights_at(saved.best_model_path)
    assert torch.equal(callback.result.model.net[0].weight, best["net.0.weight"])


def test_a_best_checkpoint_from_before_is_not_judged(tmp_path, workspace, caplog):
    caplog.set_level(logging.INFO)
    saved = checkpoints(tmp_path / "saved", monitor="val_acc", mode="max", every_n_epochs=2)
    saved.save_last = False
    callback = pruning(workspace)
    pruned(callback, None, saved, max_epochs=3)
    assert callback.result.sparsity == 0.5
    assert "no best checkpoint was saved: judging the current weights" in caplog.text


def test_a_fit_that_ends_early_takes_no_denser_checkpoint(tmp_path, workspace, caplog):
    """The best is from before; what is judged and told is the model that the fit ended with."""
    caplog.set_level(logging.INFO)
    saved = checkpoints(tmp_path / "saved", monitor="worth", mode="max", save_top_k=1)
    callback = pruning(workspace, end_epoch=3, monitor="val_acc")
    with pytest.warns(UserWarning, match="the training ended"):
        pruned(callback, Sinking(), saved, StopsAfter(8))
    assert "is from before the target sparsity was reached: judging the current" in caplog.text
    result = callback.result
    assert (result.status, result.reached) == ("not_met", False)
    assert "not_met, target not reached" in result.table()
    assert result.layers[0].sparsity == pytest.approx(1 / 6, abs=0.01)


@pytest.mark.parametrize("steps", [6, 8], ids=["within", "at end"])
def test_the_epoch_that_a_fit_ended_in(workspace, steps):
    with pytest.warns(UserWarning, match=r"ended in epoch 1 with 25.0% .* in epoch 2\. Look"):
        pruned(pruning(workspace), None, StopsAfter(steps))


def test_accumulation_that_leaves_too_few_steps_is_told(workspace):
    asked = {"start_epoch": None, "end_epoch": None, "start_step": 1, "end_step": 7}
    with pytest.warns(UserWarning, match=r"in step 7\. Look at .*, `max_time`, `max_epochs`$"):
        pruned(pruning(workspace, **asked), None, GradientAccumulationScheduler({0: 9}))


def test_a_fit_too_short_to_wait_for_a_gradient_says_of_what(workspace):
    """What was waited for, and not what ended the training."""
    asked = {**GRADIENT, "names": ["net.0.weight"]}
    callback = pruning(workspace, asked, start_epoch=None, end_epoch=None, start_step=1, end_step=3)
    module = Rolling()
    module.net[0].requires_grad_(False)
    with pytest.warns(UserWarning, match=r"No step gave `net.0.weight` a gradient, which `gradie"):
        pruned(callback, module)
    assert not callback.result.reached


def test_early_stopping_begins_anew_at_the_target(workspace, caplog):
    """It had waited one epoch of two when the target came."""
    caplog.set_level(logging.INFO)
    stop = EarlyStopping("worth", mode="max", patience=2)
    callback = pruning(workspace, monitor="val_acc", end_epoch=1)
    one, _ = pruned(callback, Sinking(), stop, max_epochs=9)
    assert "epoch 1: the target sparsity is reached: `EarlyStopping` looks for" in caplog.text
    assert one.current_epoch == 4  # the best in epoch 1, and two that are worse
    assert callback.result.reached


def test_early_stopping_before_the_target_is_told(workspace):
    stop = EarlyStopping("worth", mode="max", patience=1)
    callback = pruning(workspace, monitor="val_acc", end_epoch=6, wait_for_target=False)
    with pytest.warns(UserWarning, match="Look at what ends the training: `EarlyStopping`"):
        pruned(callback, Sinking(), stop, max_epochs=9)
    assert (callback.result.status, callback.result.reached) == ("not_met", False)


# -- again --------------------------------------------------------------------------------------


def test_a_second_fit_of_the_same_model_goes_on(workspace):
    callback = pruning(workspace)
    one, module = pruned(callback)
    first, gone = callback.result, {n: v == 0 for n, v in weights_in(module).items()}
    seen = Seen()
    one.callbacks.append(seen)
    one.fit_loop.max_epochs = 5
    one.fit(module, train_loader(64), val_loader(24))
    assert callback.result is not first
    assert callback.result.baseline == first.baseline
    assert len(seen.batches) == 4
    assert all(torch.equal(seen.batches[-1][name] == 0, gone[name]) for name in WEIGHTS)
    assert not torch.equal(seen.batches[-1][WEIGHTS[0]], seen.batches[0][WEIGHTS[0]])


def test_a_second_trainer_goes_on_with_the_same_model(workspace, caplog):
    callback, module = pruning(workspace), Rolling()
    pruned(callback, module)
    seen = Seen()
    caplog.set_level(logging.INFO)
    pruned(callback, module, seen)
    assert all(map(halved, seen.batches))
    assert "going on with what is pruned" in caplog.text


def test_a_new_model_begins_anew(workspace):
    callback = pruning(workspace)
    pruned(callback)
    seen = Seen()
    _, module = pruned(callback, Rolling(), seen)
    assert zeros(seen.batches[0]) == dict.fromkeys(WEIGHTS, 0.0)
    assert halved(module)


def test_a_fit_that_is_refused_forgets_nothing(workspace):
    callback, module = pruning(workspace), Rolling()
    pruned(callback, module)
    with pytest.raises(lpot_lightning.LpotError, match="no validation data"):
        pruned(callback, module, data=(train_loader(64),))
    seen = Seen()
    pruned(callback, module, seen)
    assert all(map(halved, seen.batches))


def test_a_fit_that_failed_goes_on(workspace):
    class Failing(Rolling):
        fails = True

        def training_step(self, batch, batch_idx):
            if self.fails and self.current_epoch == 3:
                raise RuntimeError("no")
            return super().training_step(batch, batch_idx)

    callback, module, seen = pruning(workspace), Failing(), Seen()
    with pytest.raises(RuntimeError, match="no"):
        pruned(callback, module)
    assert callback.masks is None
    module.fails = False
    pruned(callback, module, seen)
    assert all(map(halved, seen.batches))
    assert callback.result.reached


def test_a_checkpoint_that_is_saved_after_the_fit_has_the_masks(tmp_path, workspace):
    one, _ = pruned(pruning(workspace))
    one.save_checkpoint(tmp_path / "end.ckpt")
    assert set(state_in(tmp_path / "end.ckpt")["pruner"]["masks"]) == set(WEIGHTS)
    seen = Seen()
    callback = pruning(workspace)
    pruned(callback, None, seen, ckpt_path=str(tmp_path / "end.ckpt"), max_epochs=5)
    assert all(map(halved, seen.batches))
    assert callback.result.reached


def test_a_callback_can_be_copied_and_sent_before_and_after_a_fit(workspace):
    callback = copy.deepcopy(pruning(workspace))
    pruned(callback)
    assert pickle.dumps(callback)
    again = copy.deepcopy(callback)
    pruned(again)
    assert again.result.status == "met"


def test_the_model_is_let_go_of(workspace):
    """Of a fit that went well and of one that failed."""

    class Failing(Rolling):
        def on_train_epoch_end(self):
            raise RuntimeError("no")

    callback, gone = pruning(workspace), []
    for kind in (Rolling, Failing):
        module = kind()
        gone.append(weakref.ref(module.net[0].weight))
        with contextlib.suppress(RuntimeError):
            pruned(callback, module)
        del module, callback.log, callback.log_dict  # which Lightning puts there
    gc.collect()
    assert [one() for one in gone] == [None, None]


def test_a_result_that_was_read_back_says_how_to_restore_the_model(workspace):
    callback = pruning(workspace)
    pruned(callback)
    read = read_pruning_result(workspace / FILES[2])
    assert read == callback.result
    with pytest.raises(PruningError, match="pruned_model_weights.pt', model"):
        _ = read.model
