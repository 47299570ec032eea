"""A fit that rounds as int8 will, and ends with the int8 model."""

import copy
import logging
from itertools import pairwise

import pytest
import torch
from lit_scenes import Lit, files_in, same, trainer, weights_of
from qat_scenes import (
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
from torch.utils.data import DataLoader
from users_world import kept

import lpot_lightning
from lpot_lightning.errors import ArtifactError, ConfError

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
FILES = ["best_configure.yaml", "best_model_weights.pt", "best_quantized.ckpt", "deploy.yaml",
         "history.jsonl", "report.html", "result.json"]  # fmt: skip


def accuracy(module):
    (found,) = trainer().validate(module, val_images(), verbose=False)
    return found["val_acc"]


def test_a_fit_ends_with_the_int8_model_and_its_files(workspace):
    callback = qat(workspace)
    trained(callback)
    result = callback.result
    assert result.status == "met"
    assert result.fp32_ops == ()
    assert {"net.0", "net.3.conv", "net.6"} <= set(result.int8_ops)
    assert accuracy(result.model) == pytest.approx(result.accuracy)
    assert files_in(workspace) == FILES
    restored = lpot_lightning.load_from_checkpoint(ConvLit, workspace / FILES[2])
    assert same(weights_like(restored), weights_like(result.model))
    restored = lpot_lightning.load(workspace / FILES[0], workspace / FILES[1], ConvLit())
    assert accuracy(restored) == pytest.approx(result.accuracy)


def weights_like(module):
    with torch.no_grad():
        return {"out": module.eval()(next(iter(val_images()))[0])}


def test_the_module_is_as_before_but_for_what_it_learned(workspace):
    module = ConvLit()
    before = copy.deepcopy(module)
    trained(qat(workspace), module)
    assert [type(one) for one in module.modules()] == [type(one) for one in before.modules()]
    assert [set(vars(one)) for one in module.net.modules()] == [
        set(vars(one)) for one in before.net.modules()
    ]
    assert all(one.training for one in module.net.modules())
    assert not same(weights_of(module), weights_of(before))
    assert list(module.state_dict()) == list(before.state_dict())


def test_checkpoints_hold_fp32_keys_and_give_three_models(tmp_path, workspace):
    saved = checkpoints(tmp_path / "saved", monitor="val_acc", mode="max", save_top_k=1)
    trained(qat(workspace), None, saved)
    path = saved.best_model_path
    assert list(torch.load(path, weights_only=True)["state_dict"]) == list(ConvLit().state_dict())
    fp32 = ConvLit.load_from_checkpoint(path)
    rounds = lpot_lightning.load_from_checkpoint(ConvLit, path, "fake_quant")
    int8 = lpot_lightning.load_from_checkpoint(ConvLit, path)
    x = images(48, 2).tensors[0]
    with torch.no_grad():
        exact, rounded, whole = (one.eval()(x) for one in (fp32, rounds, int8))
    assert not torch.equal(exact, rounded)
    assert (whole - rounded).norm() < 0.2 * (exact - rounded).norm()
    assert same(weights_of(rounds), weights_of(fp32))
    trainer().test(int8, val_images(), verbose=False)


@pytest.mark.parametrize(
    ("form", "error", "said"),
    [
        ("int4", ConfError, "`form` is `int4`; allowed: `int8`, `fake_quant`"),
        ("fake_quant", ArtifactError, "in checkpoints of the training only"),
    ],
)
def test_forms_that_a_file_does_not_have(workspace, form, error, said):
    trained(qat(workspace), max_epochs=1)
    with pytest.raises(error, match=said):
        lpot_lightning.load_from_checkpoint(ConvLit, workspace / "best_quantized.ckpt", form)


def test_a_damaged_checkpoint(tmp_path, workspace):
    saved, path = checkpoints(tmp_path / "saved"), tmp_path / "damaged.ckpt"
    trained(qat(workspace), None, saved, max_epochs=1)
    content = torch.load(saved.last_model_path, weights_only=True)
    ours = content["lpot_lightning"]["qat"]
    ours["training"]["ranges"]["low"][0] -= 1e-3
    torch.save(content, path)
    with pytest.raises(ArtifactError, match=r"damaged.ckpt`: .*qat` of the .* is not what was wri"):
        lpot_lightning.load_from_checkpoint(ConvLit, path)
    again = checkpoints(tmp_path / "again")
    with pytest.raises(ArtifactError, match="is not what was written"):
        trained(qat(workspace), None, again, ckpt_path=path, max_epochs=2)
    del ours["sha256"]  # as earlier versions wrote it
    ours["came"] = {"net.0": "early"}
    torch.save(content, path)
    with pytest.raises(ArtifactError, match="is damaged: `came.net.0` is `early`"):
        lpot_lightning.load_from_checkpoint(ConvLit, path)
    del ours["came"], ours["training"]["ranges"]["low"]
    torch.save(content, path)
    with pytest.raises(ArtifactError, match="damaged.ckpt`: .* `low` is None"):
        lpot_lightning.load_from_checkpoint(ConvLit, path)


def test_a_checkpoint_of_the_engine_of_earlier_versions_gives_fp32_and_nothing_else(
    tmp_path, workspace
):
    saved, module = checkpoints(tmp_path / "saved"), ConvLit()
    trained(qat(workspace), module, saved, max_epochs=1)
    content = torch.load(saved.last_model_path, weights_only=True)
    content["lpot_lightning"]["qat"]["training"]["backend"] = "pytorch_fx"
    del content["lpot_lightning"]["qat"]["sha256"]
    torch.save(content, tmp_path / "old.ckpt")
    with pytest.raises(ArtifactError, match="which is gone: train again; the fp32 weights"):
        lpot_lightning.load_from_checkpoint(ConvLit, tmp_path / "old.ckpt")
    again = checkpoints(tmp_path / "again")
    with pytest.raises(ArtifactError, match="which is gone: train again"):
        trained(qat(workspace), None, again, ckpt_path=tmp_path / "old.ckpt", max_epochs=2)
    assert same(weights_of(ConvLit.load_from_checkpoint(tmp_path / "old.ckpt")), weights_of(module))


class Sinking(ConvLit):
    """Is best in its first epoch, by a number of its own."""

    def on_validation_epoch_end(self):
        self.log("worth", -float(self.current_epoch))


def test_the_best_weights_are_converted_with_their_own_ranges(tmp_path, workspace):
    saved = checkpoints(tmp_path / "saved", monitor="worth", mode="max", save_top_k=1)
    only = {"exit_policy": {"max_trials": 1}}  # int8 as it was trained
    callback = qat(workspace, monitor="val_acc", tuning=only)
    every = checkpoints(tmp_path / "every")
    trained(callback, Sinking(), saved, every)
    best, last = ranges_in(saved.best_model_path), ranges_in(every.last_model_path)
    assert not same(best, last)
    int8 = lpot_lightning.load_from_checkpoint(ConvLit, saved.best_model_path)
    assert same(weights_like(int8), weights_like(callback.result.model))


def test_weights_without_ranges_take_those_of_the_end(tmp_path, workspace, caplog):
    caplog.set_level(logging.INFO)
    saved = checkpoints(tmp_path / "saved", monitor="val_acc", mode="max", save_weights_only=True)
    callback = qat(workspace)
    trained(callback, None, saved, max_epochs=2)
    assert "has no ranges of activations, as with `save_weights_only=True`" in caplog.text
    assert callback.result.status == "met"


@pytest.mark.parametrize(
    ("given", "best", "evaluations"), [(None, 1.0, 4), (0.5, 0.5, 3)], ids=["measured", "given"]
)
def test_the_baseline(workspace, given, best, evaluations):
    callback = qat(workspace, baseline=given)
    trained(callback)
    assert callback.result.baseline == pytest.approx(best, abs=0.05)
    assert callback.result.evaluations == evaluations


def test_the_baseline_is_that_of_the_beginning_where_training_spoils_the_model(workspace, caplog):
    caplog.set_level(logging.INFO)
    _, good = trained(qat(workspace))
    torch.manual_seed(0)
    callback = qat(workspace.with_name("second"))
    spoilt = ConvLit(lr=50.0)
    spoilt.load_state_dict(good.state_dict())
    trained(callback, spoilt, max_epochs=1, limit_train_batches=2)
    assert callback.result.baseline == pytest.approx(accuracy(good))
    assert callback.result.status == "not_met"
    assert "int8 as it was trained misses the criterion" in caplog.text


def test_the_baseline_is_measured_once_and_kept(tmp_path, workspace, monkeypatch):
    saved = checkpoints(tmp_path / "saved")
    callback = qat(workspace)
    trained(callback, None, saved, max_epochs=1)
    kept_one = callback.result.baseline
    again, judged = qat(workspace.with_name("second")), []
    evaluate = "lpot_lightning.trainer.validation_judge.ValidationJudge.evaluate"
    whole = lpot_lightning.trainer.validation_judge.ValidationJudge.evaluate

    def noted(runner, model, label, watch=None):
        judged.append(label)
        return whole(runner, model, label, watch)

    monkeypatch.setattr(evaluate, noted)
    trained(
        again, None, checkpoints(tmp_path / "saved"), ckpt_path=saved.last_model_path, max_epochs=2
    )
    assert len([one for one in judged if one == "baseline"]) == 1  # of the trained weights
    assert again.result.baseline >= kept_one


def test_ops_fall_back_where_int8_as_trained_is_not_enough(workspace, caplog):
    caplog.set_level(logging.INFO)
    callback = qat(
        workspace,
        baseline=1.0,
        tuning={"accuracy_criterion": {"absolute": -0.5}, "exit_policy": {"max_trials": 4}},
    )
    trained(callback, max_epochs=1)
    assert "int8 as it was trained misses the criterion: going on with ops in fp32" in caplog.text
    assert callback.result.status in ("not_met", "budget_exhausted")
    assert len(callback.result.trials) > 1
    assert callback.result.model is not None


def test_fit_and_fit_again(workspace):
    callback, module = qat(workspace), ConvLit()
    one, _ = trained(callback, module, max_epochs=1)
    first = callback.result
    one.fit_loop.max_epochs = 2
    one.fit(module, train_images(), val_images())
    assert callback.result is not first
    assert callback.result.status == "met"


def test_what_freezes_when(tmp_path, workspace, caplog):
    caplog.set_level(logging.INFO)
    saved = checkpoints(tmp_path / "saved")
    _, module = trained(qat(workspace), None, saved)
    assert "epoch 2: from here on the statistics of BatchNorm are frozen" in caplog.text
    assert "epoch 3: from here on the ranges of activations are frozen" in caplog.text
    states = [
        torch.load(path, weights_only=True) for path in sorted((tmp_path / "saved").glob("epoch*"))
    ]
    means = [state["state_dict"]["net.1.running_mean"] for state in states]
    ranges = [state["lpot_lightning"]["qat"]["training"]["ranges"] for state in states]
    assert [torch.equal(*pair) for pair in pairwise(means)] == [False, True, True]
    assert [same(*pair) for pair in pairwise(ranges)] == [False, False, True]


def test_a_training_that_begins_late_freezes_late(tmp_path, workspace, caplog):
    """As one does that goes on with the checkpoint of an fp32 fit."""
    caplog.set_level(logging.INFO)
    saved = checkpoints(tmp_path / "saved")
    fp32 = trainer(saved, max_epochs=6, enable_checkpointing=True)
    fp32.fit(ConvLit(), train_images(), val_images())
    callback = qat(workspace)
    more = checkpoints(tmp_path / "saved")
    trained(callback, None, more, ckpt_path=saved.last_model_path, max_epochs=10)
    assert "epoch 8: from here on the statistics of BatchNorm are frozen" in caplog.text
    assert "epoch 9: from here on the ranges of activations are frozen" in caplog.text
    assert callback.result.fp32_ops == ()


def test_a_norm_that_the_user_froze_stays_frozen(workspace):
    class Frozen(ConvLit):
        def on_train_epoch_start(self):
            self.net[1].eval()

    _, module = trained(qat(workspace), Frozen())
    assert torch.equal(module.net[1].running_mean, torch.zeros(8))
    assert not torch.equal(module.net[3].norm.running_mean, torch.zeros(8))


def test_only_the_modules_that_are_named(workspace):
    callback = qat(workspace, modules=["net.3"])
    trained(callback, max_epochs=1)
    assert set(callback.result.int8_ops) == {"net.3.conv"}


def test_what_stays_in_fp32_is_not_rounded(tmp_path, workspace):
    fp32 = {one: {"weight": {"dtype": ["fp32"]}, "activation": {"dtype": ["fp32"]}}
            for one in ("net.0", "net.3.conv")}  # fmt: skip
    saved, callback = (
        checkpoints(tmp_path / "saved"),
        qat(workspace, quantization={"op_wise": fp32}),
    )
    trained(callback, None, saved, max_epochs=1)
    state = torch.load(saved.last_model_path, weights_only=True)["lpot_lightning"]["qat"]
    rounded = {op for op, one in state["training"]["op"].items() if one != FP32}
    assert rounded == set(callback.result.int8_ops) == {"net.6"}


FP32 = {"activation": {"dtype": "fp32"}}


def test_random_numbers_are_those_of_a_fit_without_us(workspace):
    class Noted(ConvLit):
        def training_step(self, batch, batch_idx):
            drawn.append(torch.rand(()).item())
            return super().training_step(batch, batch_idx)

    seen = []
    for callbacks in ([], [qat(workspace)]):
        drawn: list[float] = []
        torch.manual_seed(3)
        module = Noted()
        trainer(*callbacks, max_epochs=2).fit(
            module, DataLoader(images(96, 0), batch_size=16, shuffle=True), val_images()
        )
        seen.append(drawn)
    assert seen[0] == seen[1]


def test_the_judging_leaves_the_users_world_alone(workspace):
    class Watched(lpot_lightning.QATCallback):
        def on_fit_start(self, one, module):
            with kept(one, module):
                super().on_fit_start(one, module)
                training = self._fit.training
                self._fit.let_go()
            self._begin(module, training)

    callback = Watched(qat(workspace).conf.to_dict())
    trained(callback, max_epochs=1)
    assert callback.result.status == "met"


class Mixed(Lit):
    """Validates by its net, and trains by the pieces of it."""

    def __init__(self):
        super().__init__(0.05)
        self.net = Pieces()

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.net.head(self.net.body(batch[0]).relu()), batch[1])


class Pieces(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.body(x).relu())


def test_layers_that_training_calls_past_their_module_round(tmp_path, workspace):
    from lit_scenes import train_loader, val_loader

    saved, callback = checkpoints(tmp_path / "saved"), qat(workspace)
    trained(callback, Mixed(), saved, data=(train_loader(), val_loader()), max_epochs=2)
    state = torch.load(saved.last_model_path, weights_only=True)["lpot_lightning"]["qat"]
    assert state["training"]["places"] == ["net.body", "net.head"]
    assert state["training"]["ranges"]["high"].isfinite().all()
    assert set(callback.result.int8_ops) == {"net.body", "net.head"}
