"""What a pruning refuses, before its first batch."""

import logging
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lit_scenes import Lit, conf, points, train_loader, trainer, val_loader
from sparse_scenes import (
    EPOCHS,
    GRADIENT,
    PLACE,
    ByHand,
    Rolling,
    checkpoints,
    halved,
    pruned,
    pruning,
    pruning_conf,
)
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from users_world import HOOKS

from lpot_lightning import PruningCallback, QuantizationCallback
from lpot_lightning.errors import (
    ConfError,
    EvaluationError,
    LpotError,
    PruningError,
)
from lpot_lightning.machine.lock import WorkspaceLock


class Untrained(Rolling):
    """Must not come to its first batch."""

    def training_step(self, batch, batch_idx):
        raise AssertionError("trained")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"baseline": "high"}, "`baseline` is `'high'`; allowed: a number, in the unit of the"),
        ({"baseline": float("nan")}, "`baseline` is `nan`"),
        ({"baseline": float("inf")}, "`baseline` is `inf`"),
        ({"baseline": True}, "`baseline` is `True`"),
        ({"modules": "net"}, "`modules` is `'net'`; allowed: a list of names or globs"),
        ({"modules": 3}, "`modules` is `3`; allowed: a list of names or globs"),
        ({"modules": [1]}, "`modules` is `[1]`; allowed: a list of names or globs"),
        ({"wait_for_target": "no"}, "`wait_for_target` is `'no'`; allowed: `True`, `False`"),
        ({"monitor": 3}, "`monitor` is `3`; allowed: the name of a logged metric"),
        ({"target_sparsity": 1.5}, "target_sparsity` is `1.5`; allowed: a number in [0, 1]."),
        ({"target_sparsity": -0.1}, "target_sparsity` is `-0.1`; allowed: a number in [0, 1]."),
        ({"target_sparsity": "half"}, "target_sparsity` is `half`; allowed: a number in [0, 1]."),
        ({"initial_sparsity": 0.6}, "goes from `initial_sparsity` 0.6 to `target_sparsity` 0.5;"),
        ({"start_epoch": 3}, "goes from `start_epoch` 3 to `end_epoch` 2; allowed: `start_epoch`"),
        ({"end_epoch": 1.5}, "end_epoch` is `1.5`; allowed: a whole number"),
        ({"target_sparsty": 0.5}, "target_sparsty` is not a known key;"),
    ],
    ids=str,
)
def test_arguments(workspace, given, said):
    with pytest.raises(ConfError) as caught:
        pruning(workspace, **given)
    assert said in str(caught.value)
    assert not workspace.exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "conf is a `NoneType`; allowed: a path, a mapping"),
        (3, "conf is a `int`; allowed: a path, a mapping"),
        ([], "conf is a `list`; allowed: a path, a mapping"),
        ("nowhere.yaml", "nowhere.yaml"),
        ({}, "`model` is missing"),
    ],
    ids=str,
)
def test_no_yaml(given, said):
    with pytest.raises(LpotError, match=said):
        PruningCallback(given)


def test_a_yaml_for_another_callback():
    with pytest.raises(ConfError, match="there is no `pruning` for `PruningCallback`; use `Quant"):
        PruningCallback(conf())
    with pytest.raises(ConfError, match="`pruning` is all that is asked for; use `PruningCallback"):
        QuantizationCallback(pruning_conf(None))


def refused(callback, error, module=None, *others, data=None, **given):
    """Return what a fit is refused with; nothing is left behind in the module or the folder."""
    module = Untrained() if module is None else module
    before = {name: value.clone() for name, value in module.state_dict().items()}
    hooks = hooks_of(module)
    with pytest.raises(error) as caught:
        pruned(callback, module, *others, data=data, **given)
    assert hooks_of(module) == hooks
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert callback.result is None
    assert callback.masks is None
    return str(caught.value)


def hooks_of(module):
    return [len(getattr(part, name)) for part in module.modules() for name in HOOKS]


@pytest.mark.parametrize(
    ("pruner", "said"),
    [
        (
            {"names": "net.o.weight"},
            f"`{PLACE}.pruners[0].names` has `net.o.weight`, which matches no parameter. Did you"
            " mean `net.",
        ),
        (
            {"names": "net.*.bias"},
            f"`{PLACE}.pruners[0].names` has `net.*.bias`, which matches no weight of two"
            " dimensions or more; `net.0.bias` is [16]",
        ),
        (
            {"excluded_names": "nett.*"},
            f"`{PLACE}.pruners[0].excluded_names` has `nett.*`, which matches no parameter.",
        ),
        ({"excluded_names": "net.*"}, f"`{PLACE}.pruners[0]` prunes nothing: no weight is left"),
        (
            {"pattern": "tile_pattern_2x2"},
            f"`{PLACE}.pruners[0].pattern` is `tile_pattern_2x2`, which does not divide"
            " `net.2.weight` (its last two dimensions are 3x16): take another pattern, or leave"
            " them out by `excluded_names`",
        ),
        (
            {"names": "net.0.weight", "pattern": "3x1"},
            "is `3x1`, which does not divide `net.0.weight` (it has 16 outputs x 8 inputs)",
        ),
        (
            {"names": "net.0.weight", "pattern": "2:16"},
            "is `2:16`, which does not divide `net.0.weight` (it has 8 inputs)",
        ),
        (
            {**GRADIENT, "initial_sparsity": 0.1},
            "`gradient_sensitivity` needs the gradients of an epoch before: let `start_epoch` be",
        ),
        (
            {"prune_type": "pattern_lock"},
            "is a `pattern_lock`, and none of its weights is zero when the training begins",
        ),
        (
            {**GRADIENT, "names": "net.0.*", "parameters": {"target": 2, "stride": 5}},
            "stride` is `5`, which does not divide dimension 0 of `net.0.weight`, [16, 8]",
        ),
        (
            {**GRADIENT, "names": "net.0.*", "parameters": {"target": 9, "stride": 2}},
            "target` is `9`, and there are 8 groups of 2; allowed: the number of groups to keep",
        ),
        (
            {
                **GRADIENT,
                "names": "net.0.*",
                "parameters": {
                    "target": 4,
                    "stride": 2,
                    "importance_inputs": ["head_mask"],
                    "importance_metric": "abs_gradient",
                },
            },
            "has `head_mask`, and no module's `forward` takes an argument of that name",
        ),
    ],
    ids=lambda given: given if isinstance(given, str) else " ".join(map(str, given.values())),
)
def test_names_and_patterns(workspace, pruner, said):
    assert said in refused(pruning(workspace, pruner), ConfError)


def test_two_pruners_of_one_weight(workspace):
    callback = pruning(workspace, {"names": "net.*.weight"}, {"names": "net.2.weight"})
    said = refused(callback, ConfError)
    assert f"`net.2.weight` is pruned by `{PLACE}.pruners[0]` and by `[1]`: name it in one" in said


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        (["nte"], "`modules` has `nte`, which matches no module. Did you mean `net`?"),
        (["net.1"], f"`{PLACE}.pruners[0]` prunes nothing: no weight is left for it in `modules`"),
    ],
)
def test_modules(workspace, modules, said):
    assert said in refused(pruning(workspace, modules=modules), ConfError)


def test_a_model_without_weights(workspace):
    class Bare(Untrained):
        def __init__(self):
            super().__init__()
            self.net = nn.LayerNorm(8)

    assert "prunes nothing: no weight is left for it" in refused(
        pruning(workspace), ConfError, Bare()
    )


def test_weights_that_are_computed_from_others(workspace):
    module = Untrained()
    for part in module.net[::2]:
        parametrizations.weight_norm(part)
    assert "prunes nothing" in refused(pruning(workspace), ConfError, module)


STEPS = {"start_epoch": None, "end_epoch": None}


@pytest.mark.parametrize(
    ("asked", "given", "said"),
    [
        (
            {**STEPS, "end_step": 8},
            {"max_epochs": -1, "max_steps": 8},
            "`end_step` is 8, counted from 0, and the Trainer stops after 8 steps: the target would"
            " not be trained with. Give it `max_steps=9` or more, or let `end_step` be earlier",
        ),
        (
            {**STEPS, "end_step": 16},
            {"max_epochs": 4},
            "`end_step` is 16, counted from 0, and the Trainer stops after 16 steps, 4 an epoch:"
            " the target would not be trained with. Train longer, or let `end_step` be earlier",
        ),
        (
            {**STEPS, "end_step": 8},
            {"max_epochs": 4, "accumulate_grad_batches": 3},
            "`end_step` is 8, counted from 0, and the Trainer stops after 8 steps, 2 an epoch:",
        ),
        (
            {"end_epoch": 3},
            {"max_epochs": 10, "max_steps": 12},
            "`end_epoch` is 3, counted from 0, which begins after 12 steps, 4 an epoch, and the"
            " Trainer stops after 12: the target would not be trained with. Give it `max_steps=13`"
            " or more, let `end_epoch` be earlier, or count steps: `start_step` and `end_step` in"
            " place of `start_epoch` and `end_epoch`",
        ),
        ({"end_epoch": 3}, {"max_epochs": -1, "max_steps": 9}, "begins after 12 steps"),
        (
            {"end_epoch": 3},
            {"max_epochs": -1, "max_steps": 6, "limit_train_batches": 2},
            "begins after 6 steps, 2 an epoch, and the Trainer stops after 6",
        ),
    ],
    ids=str,
)
def test_a_fit_that_ends_before_the_schedule(workspace, asked, given, said):
    assert said in refused(pruning(workspace, **asked), ConfError, **given)


def test_a_fit_that_is_just_long_enough(workspace):
    for asked, given in (
        ({**STEPS, "end_step": 8}, {"max_epochs": -1, "max_steps": 9}),
        ({**STEPS, "end_step": 11}, {"max_epochs": 3}),
        ({"end_epoch": 2}, {"max_epochs": 9, "max_steps": 9}),
    ):
        callback = pruning(workspace, **asked)
        pruned(callback, **given)
        assert callback.result.reached


class Unsized(IterableDataset):
    """Has an end, which nobody knows before."""

    def __iter__(self):
        return iter(points(64))


def unsized():
    return DataLoader(Unsized(), batch_size=16), val_loader(24)


def test_epochs_of_data_without_length(workspace):
    given = {"max_epochs": -1, "max_steps": 60, "val_check_interval": 20}
    said = refused(
        pruning(workspace), ConfError, data=unsized(), check_val_every_n_epoch=None, **given
    )
    assert said == (
        "`end_epoch` is 2, and the training data have no length: the schedule counts epochs, and"
        " `max_steps=60` may end the fit in its first one. Say by `limit_train_batches` how many"
        " batches an epoch has, or count steps: `start_step` and `end_step` in place of"
        " `start_epoch` and `end_epoch`"
    )


@pytest.mark.parametrize(
    "given",
    [{}, {"max_epochs": -1, "max_steps": 12, "limit_train_batches": 4}, {"fast_dev_run": True}],
    ids=str,
)
def test_epochs_of_data_without_length_that_may_end(workspace, given):
    callback = pruning(workspace)
    pruned(callback, data=unsized(), **given)
    assert callback.result.reached


def test_at_once_at_the_start_needs_no_length(workspace):
    callback = pruning(workspace, end_epoch=0)
    pruned(callback, data=unsized(), max_epochs=-1, max_steps=5)
    assert callback.result.reached


def test_steps_that_cannot_be_known_are_not_refused(workspace):
    """By hand there may be any number of them in a batch."""
    callback = pruning(workspace, **STEPS, end_step=20)
    pruned(callback, ByHand())  # 2 x 16
    assert callback.result.reached


@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_epochs_that_are_too_few(workspace, epochs):
    said = refused(pruning(workspace), ConfError, max_epochs=epochs)
    assert said == (
        f"`end_epoch` is 2, counted from 0, and the Trainer stops after {epochs} epochs: the"
        " target would not be trained with. Give it `max_epochs=3` or more, or let `end_epoch` be"
        " earlier"
    )
    assert not workspace.exists()


def test_as_many_epochs_as_are_needed(workspace):
    callback = pruning(workspace)
    pruned(callback, max_epochs=3)
    assert callback.result.reached


@pytest.mark.parametrize("kind", [FSDPStrategy, DeepSpeedStrategy, ModelParallelStrategy])
def test_strategies_that_split_the_model(workspace, kind):
    """Their packages and devices are not here: one that was never set up stands for them."""
    callback = pruning(workspace)
    one = trainer(callback, max_epochs=EPOCHS)
    own, one._accelerator_connector.strategy = one.strategy, object.__new__(kind)
    with pytest.raises(
        PruningError,
        match=f"`{kind.__name__}` keeps the weights in pieces, or elsewhere, and pruning ranks the"
        " whole of them: train with one device, or with `ddp`",
    ):
        callback.setup(one, Rolling(), "fit")
    one._accelerator_connector.strategy = own
    assert not workspace.exists()


def test_no_validation_data(workspace):
    said = refused(pruning(workspace), EvaluationError, data=(train_loader(64),))
    assert "there is no validation data: pass `val_dataloaders`" in said
    said = refused(pruning(workspace), EvaluationError, limit_val_batches=0)
    assert "leave `limit_val_batches` above 0" in said
    assert not workspace.exists()


def test_no_validation_step(workspace):
    class Blind(Untrained):
        validation_step = pl.LightningModule.validation_step

    said = refused(pruning(workspace), EvaluationError, Blind(), data=(train_loader(64),))
    assert "has no `validation_step`" in said


def test_a_validation_that_fails(workspace):
    class Failing(Untrained):
        def validation_step(self, batch, batch_idx):
            raise ValueError("no")

    assert "ValueError: no" in refused(pruning(workspace), LpotError, Failing())


def test_a_monitor_that_nobody_logs(workspace):
    said = refused(pruning(workspace, monitor="val_ac"), EvaluationError)
    assert "`monitor` is `val_ac`, which the validation loop does not log" in said
    assert "Did you mean `val_acc`?" in said


def test_a_loss_whose_direction_nobody_says(workspace):
    class Loss(Untrained):
        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.net(batch[0]).square().mean())

    said = refused(pruning(workspace), ConfError, Loss())
    assert "set `tuning.accuracy_criterion.higher_is_better` in the YAML" in said


SHARE = "`tuning.accuracy_criterion.relative` is a share of the baseline, and the baseline accuracy"


def test_a_share_of_nothing(workspace):
    """A model that is right in no case, pruned from its first epoch on."""

    class Wrong(Untrained):
        def validation_step(self, batch, batch_idx):
            self.log("val_acc", 0.0)

    with pytest.raises(ConfError, match=SHARE):
        pruning(workspace, baseline=0)
    assert SHARE in refused(pruning(workspace, initial_sparsity=0.1), ConfError, Wrong())
    absolute = {"accuracy_criterion": {"absolute": 0.1}}
    assert pruning(workspace, baseline=0, tuning=absolute).baseline == 0


def test_a_baseline_of_nothing_that_becomes_more(workspace):
    class Late(Rolling):
        def validation_step(self, batch, batch_idx):
            self.log("worth", float(self.trainer.global_step > 0))

    callback = pruning(workspace)
    pruned(callback, Late())
    assert (callback.result.status, callback.result.baseline) == ("met", 1.0)


def test_barebones(workspace):
    with pytest.raises(EvaluationError, match=r"`Trainer\(barebones=True\)` logs nothing"):
        trainer(
            pruning(workspace), barebones=True, logger=None, enable_checkpointing=None,
            enable_progress_bar=None, enable_model_summary=None, num_sanity_val_steps=None,
            max_epochs=EPOCHS,
        ).fit(Untrained(), train_loader(), val_loader())  # fmt: skip


def test_two_callbacks(workspace):
    class Another(PruningCallback):
        pass

    with pytest.raises(RuntimeError, match="more than one stateful callback of type `PruningCall"):
        trainer(pruning(workspace), pruning(workspace))  # which Lightning itself refuses
    said = refused(pruning(workspace), ConfError, None, Another(pruning_conf(workspace)))
    assert said == "the Trainer has two callbacks that prune: put all pruners into one YAML"
    assert not workspace.exists()


def test_a_workspace_that_is_in_use(workspace):
    callback = pruning(workspace)
    with WorkspaceLock(workspace):
        pruned(callback)
    assert callback.result.workspace == workspace / "parallel" / "1"
    assert [one.name for one in workspace.iterdir()] == ["lock", "parallel"]


def test_a_workspace_that_cannot_be_written(workspace):
    workspace.write_text("a file in the way")
    assert "cannot write to the workspace" in refused(pruning(workspace), LpotError)
    assert workspace.read_text() == "a file in the way"


def test_a_refused_fit_leaves_the_files_of_the_one_before(workspace):
    pruned(pruning(workspace))
    files = {path: path.read_bytes() for path in workspace.iterdir()}
    refused(pruning(workspace, {"names": "nothing"}), ConfError)
    refused(pruning(workspace), ConfError, max_epochs=1)
    assert {path: path.read_bytes() for path in workspace.iterdir()} == files
    with WorkspaceLock(workspace):
        pass


def test_a_weight_that_gets_no_gradient(workspace):
    """It is known when the first epoch is over."""

    class Frozen(Rolling):
        def __init__(self):
            super().__init__()
            self.net[0].weight.requires_grad_(False)

    with pytest.raises(PruningError, match=r"`net.0.weight` is to be pruned by .* exclude it by"):
        pruned(pruning(workspace, {**GRADIENT, "names": "net.*.weight"}), Frozen())
    callback = pruning(workspace, GRADIENT)  # unasked, it is left alone
    pruned(callback, Frozen())
    assert callback.result.reached


def test_data_that_are_not_finite_are_told(workspace):
    """No accuracy is made up, and no file is written."""
    nothing = TensorDataset(torch.full((16, 8), float("nan")), torch.arange(16) % 3)

    class Loss(Lit):
        def validation_step(self, batch, batch_idx):
            self.log("worth", -self.net(batch[0]).square().mean())

    with pytest.raises(EvaluationError, match="the pruned model's `worth` is nan: look at"):
        pruned(
            pruning(workspace), Loss(lr=0.1),
            data=(DataLoader(nothing, batch_size=4), DataLoader(points(16), batch_size=8)),
        )  # fmt: skip
    assert not list(workspace.glob("pruned*"))


def test_hyperparameters_that_cannot_be_read_safely(tmp_path, workspace, caplog):
    """The best checkpoint cannot be looked into: what the fit ended with is judged, and told."""

    class Odd(Rolling):
        def __init__(self):
            super().__init__()
            self.save_hyperparameters({"folder": Path("here"), "lr": 0.05})

    caplog.set_level(logging.INFO)
    callback = pruning(workspace)
    pruned(callback, Odd(), checkpoints(tmp_path / "saved"))
    assert halved(callback.result.model)
    assert "cannot be read with `weights_only=True`" in caplog.text
    assert "judging the current weights" in caplog.text
    assert "ckpt='current'" not in caplog.text


def test_a_best_checkpoint_that_is_gone(tmp_path, workspace, caplog):
    class Deleting(pl.Callback):
        def on_train_end(self, one, module):
            for path in (tmp_path / "saved").iterdir():
                path.unlink()

    caplog.set_level(logging.INFO)
    callback = pruning(workspace)
    pruned(callback, None, checkpoints(tmp_path / "saved"), Deleting())
    assert halved(callback.result.model)
    assert "(FileNotFoundError: [Errno 2] No such file" in caplog.text
