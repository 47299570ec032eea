"""Whose weights are quantized, and int8 in one Lightning checkpoint."""

import logging
import os
import tarfile
from pathlib import Path

import numpy
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lit_scenes import (
    Lit,
    conf,
    fitted,
    points,
    same,
    train_loader,
    trainer,
    val_loader,
    weights_of,
)

import lpot_lightning
from lpot_lightning import load_from_checkpoint
from lpot_lightning.errors import ArtifactError, QuantizationError
from lpot_lightning.trainer.checkpoint import read_checkpoint

FILE = "best_quantized.ckpt"


class Drifting(Lit):
    """Each epoch its weights become other ones; it is best after the first, by ``val_loss``."""

    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) * 0.0

    def on_train_epoch_start(self):
        self.net[0].weight.data += 0.01

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        self.log("val_loss", float(self.current_epoch))


def drift(callback, ckpt, tmp_path):
    """Fit three epochs and return the module and the fp32 weights that were quantized."""
    quantization, module = callback(monitor="val_acc", ckpt=ckpt), Drifting(lr=0.01)
    saver = ModelCheckpoint(tmp_path / "kept", monitor="val_loss", save_last=True, save_top_k=-1)
    fitted(quantization, module, others=(saver,), enable_checkpointing=True, max_epochs=3)
    content = torch.load(quantization.result.workspace / FILE, weights_only=True)
    return module, content["state_dict"], saver


@pytest.mark.parametrize("ckpt", ["best", "last", "current"])
def test_the_weights_asked_for_are_quantized_and_the_module_keeps_its_own(
    callback, ckpt, tmp_path, caplog
):
    caplog.set_level(logging.INFO)
    module, quantized, saver = drift(callback, ckpt, tmp_path)
    best = torch.load(saver.best_model_path, weights_only=True)["state_dict"]
    last = torch.load(saver.last_model_path, weights_only=True)["state_dict"]
    assert not same(best, last)
    assert same(weights_of(module), last)
    assert same(quantized, best if ckpt == "best" else last)
    path = {"best": saver.best_model_path, "last": saver.last_model_path}.get(ckpt)
    assert (f"quantizing the weights of `{path}`" in caplog.text) == (ckpt != "current")


ORDERS = [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)]


def savers(tmp_path, order):
    """Return the one that keeps the best, and it with two others in some order."""
    best = ModelCheckpoint(tmp_path / "best", monitor="val_loss", mode="min")
    all_of_them = ModelCheckpoint(tmp_path / "all", save_top_k=-1, every_n_epochs=1)
    of_another = ModelCheckpoint(tmp_path / "other", monitor="other", mode="max")
    given = (all_of_them, best, of_another)
    return best, tuple(given[number] for number in order)


class TwoMetrics(Drifting):
    """Another metric is best after the last epoch."""

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        self.log("other", float(self.current_epoch))


@pytest.mark.parametrize("order", ORDERS)
def test_of_several_checkpoints_it_is_the_one_that_watches_what_is_judged_by(
    callback, tmp_path, order
):
    best, others = savers(tmp_path, order)
    quantization = callback(
        monitor="val_loss",
        tuning={"accuracy_criterion": {"absolute": 1.0, "higher_is_better": False}},
    )
    fitted(quantization, TwoMetrics(0.01), others=others, enable_checkpointing=True, max_epochs=3)
    content = torch.load(quantization.result.workspace / FILE, weights_only=True)
    kept = torch.load(best.best_model_path, weights_only=True)
    assert kept["epoch"] == 0
    assert same(content["state_dict"], kept["state_dict"])


@pytest.mark.parametrize("order", ORDERS)
def test_the_best_is_the_same_without_a_fit(workspace, tmp_path, order):
    best, others = savers(tmp_path, order)
    one = trainer(*others, max_epochs=3, enable_checkpointing=True)
    one.fit(TwoMetrics(0.01), train_loader(), val_loader())
    lpot_lightning.quantize(
        one,
        TwoMetrics(),
        train_loader(),
        val_loader(),
        conf=conf(
            workspace, tuning={"accuracy_criterion": {"absolute": 1.0, "higher_is_better": False}}
        ),
        monitor="val_loss",
        ckpt_path="best",
    )
    content = torch.load(workspace / FILE, weights_only=True)
    kept = torch.load(best.best_model_path, weights_only=True)
    assert same(content["state_dict"], kept["state_dict"])


def test_who_keeps_the_worst_too_does_not_choose(callback, tmp_path):
    keep = [
        ModelCheckpoint(tmp_path / mode, monitor="val_loss", mode=mode) for mode in ("max", "min")
    ]
    quantization = callback(
        monitor="val_loss",
        tuning={"accuracy_criterion": {"absolute": 1.0, "higher_is_better": False}},
    )
    fitted(
        quantization, Drifting(0.01), others=tuple(keep), enable_checkpointing=True, max_epochs=3
    )
    content = torch.load(quantization.result.workspace / FILE, weights_only=True)
    kept = torch.load(keep[1].best_model_path, weights_only=True)["state_dict"]
    assert same(content["state_dict"], kept)


def test_the_last_is_the_newest_of_those_that_keep_one(callback, tmp_path):
    rare = ModelCheckpoint(tmp_path / "rare", save_last=True, every_n_epochs=2)
    each = ModelCheckpoint(tmp_path / "each", save_last=True)
    quantization = callback(monitor="val_acc", ckpt="last")
    module = Drifting(0.01)
    others = (ModelCheckpoint(tmp_path / "no", monitor="val_acc", mode="max"), rare, each)
    fitted(quantization, module, others=others, enable_checkpointing=True, max_epochs=3)
    content = torch.load(quantization.result.workspace / FILE, weights_only=True)
    assert same(content["state_dict"], weights_of(module))


def test_without_a_model_checkpoint_the_current_weights_are_taken_and_said(callback, caplog):
    caplog.set_level(logging.INFO)
    fitted(callback())
    assert "there is no ModelCheckpoint: quantizing the current weights" in caplog.text


def test_where_no_checkpoint_was_saved_that_is_said(callback, caplog, tmp_path):
    caplog.set_level(logging.INFO)
    saver = ModelCheckpoint(tmp_path / "kept")
    fitted(callback(), others=(saver,), enable_checkpointing=True)
    assert "no best checkpoint was saved: quantizing the current weights" in caplog.text


def test_one_file_gives_the_fp32_model_to_lightning_and_int8_to_us(callback, workspace):
    quantization = callback()
    fitted(quantization)
    x = next(iter(val_loader()))[0]
    fp32 = Lit.load_from_checkpoint(workspace / FILE)
    int8 = lpot_lightning.load_from_checkpoint(Lit, workspace / FILE)
    assert same(weights_of(fp32), weights_of(Lit()))
    assert torch.equal(int8(x), quantization.result.model(x))
    assert not torch.equal(int8(x), fp32(x))
    two = (workspace / "best_configure.yaml", workspace / "best_model_weights.pt")
    assert torch.equal(lpot_lightning.load(*two, fp32)(x), int8(x))


class Sharp(Lit):
    """Has a number that no checkpoint has, and sets it when it was trained."""

    def __init__(self, sign=1):
        super().__init__()
        self.temperature, self.sign = 1.0, sign

    def forward(self, x):
        return self.sign * self.net(x) / self.temperature

    def validation_step(self, batch, batch_idx):
        self.acc(self(batch[0]), batch[1])
        self.log("val_acc", self.acc)

    def on_train_end(self):
        self.temperature = 0.25


class Minus(Sharp):
    def forward(self, x):
        return -super().forward(x)


def test_a_number_that_was_set_after_training_travels_with_the_checkpoint(callback, workspace):
    quantization, x = callback(), points(8).tensors[0]
    fitted(quantization, Sharp(), max_epochs=1)
    again = load_from_checkpoint(Sharp, workspace / FILE)
    assert again.temperature == 0.25
    assert torch.equal(again(x), quantization.result.model(x))


def test_a_class_that_computes_something_else_is_refused(callback, workspace):
    fitted(callback(), Sharp(), max_epochs=1)
    told = r"`.*best_quantized\.ckpt`: the model computes something else .* it is a `Minus`"
    with pytest.raises(ArtifactError, match=told):
        load_from_checkpoint(Minus, workspace / FILE)


def test_hyperparameters_come_back_and_can_be_overridden(callback, workspace):
    fitted(callback(), Lit(lr=0.25))
    assert lpot_lightning.load_from_checkpoint(Lit, workspace / FILE).hparams.lr == 0.25
    assert lpot_lightning.load_from_checkpoint(Lit, workspace / FILE, lr=1.0).hparams.lr == 1.0


class Odd:
    """Something that ``weights_only=True`` refuses."""


class Kept(Lit):
    def __init__(self, lr=0.0, folder=None, odd=None):
        super().__init__(lr)
        self.save_hyperparameters()

    def on_save_checkpoint(self, checkpoint):
        assert self.trainer is not None
        checkpoint["own"] = {"epochs": 3}
        checkpoint["odd"] = Odd()


def test_what_weights_only_cannot_read_is_left_out_and_said(callback, workspace, caplog):
    caplog.set_level(logging.INFO)
    fitted(callback(), Kept(0.5, Path("somewhere"), Odd()))
    restored = Kept.load_from_checkpoint(workspace / FILE)
    assert restored.hparams == {"lr": 0.5, "folder": None, "odd": None}
    content = torch.load(workspace / FILE, weights_only=True)
    assert content["own"] == {"epochs": 3}
    said = next(one for one in caplog.messages if one.startswith(f"left out of `{FILE}`"))
    assert "`hyper_parameters.folder` (it holds a `pathlib.PosixPath`)" in said
    assert "`hyper_parameters.odd` (it holds a `tests.trainer.test_checkpoint.Odd`); `odd`" in said
    two = f"'{workspace / 'best_configure.yaml'}', '{workspace / 'best_model_weights.pt'}'"
    assert said.endswith(f"restore int8 by `lpot_lightning.load({two}, model)`")


def _adds(checkpoint):
    checkpoint["hyper_parameters"]["special"] = Odd()


def _deep(checkpoint):
    checkpoint["hyper_parameters"] = {"lr": 0.5, "of": {"parts": [1, 2], "odd": Odd()}}


def _in_a_list(checkpoint):
    checkpoint["more"] = [1, Odd()]


def _exchanges(checkpoint):
    checkpoint["lpot_lightning"] = Odd()


def _weights(checkpoint):
    checkpoint["state_dict"]["odd"] = Odd()


def _itself(checkpoint):
    checkpoint["more"] = checkpoint


def _nothing_to_pickle(checkpoint):
    checkpoint["more"] = lambda: None


def _fails(checkpoint):
    raise KeyError("trainer")


@pytest.mark.parametrize(
    "change",
    [_adds, _deep, _in_a_list, _exchanges, _weights, _itself, _nothing_to_pickle, _fails],
)
def test_whatever_a_hook_changes_the_file_can_be_read(callback, workspace, change, caplog):
    class Changing(Lit):
        def on_save_checkpoint(self, checkpoint):
            change(checkpoint)

    caplog.set_level(logging.INFO)
    quantization = callback()
    fitted(quantization, Changing(0.5))
    x = points(8).tensors[0]
    int8 = lpot_lightning.load_from_checkpoint(Changing, workspace / FILE)
    assert torch.equal(int8(x), quantization.result.model(x))
    assert int8.hparams.lr == 0.5
    told = [one for one in caplog.messages if FILE in one]
    assert len(told) == (0 if change is _exchanges else 1)


def test_a_class_that_misses_what_was_left_out_is_told_the_other_way(callback, workspace):
    class Needs(Lit):
        def on_save_checkpoint(self, checkpoint):
            checkpoint["special"] = Odd()

        def on_load_checkpoint(self, checkpoint):
            self.special = checkpoint["special"]

    quantization = callback()
    fitted(quantization, Needs())
    with pytest.raises(
        ArtifactError, match=r"cannot make the model \(KeyError: 'special'\): .*load"
    ):
        lpot_lightning.load_from_checkpoint(Needs, workspace / FILE)
    two = (workspace / "best_configure.yaml", workspace / "best_model_weights.pt")
    x = points(8).tensors[0]
    assert torch.equal(lpot_lightning.load(*two, Needs())(x), quantization.result.model(x))


def test_an_omegaconf_config_is_kept_as_plain_values(callback, workspace):
    from omegaconf import OmegaConf

    class Configured(Lit):
        def __init__(self, lr=0.0, **rest):
            super().__init__(lr)
            self.save_hyperparameters(OmegaConf.create({"lr": lr, "widths": [1, 2]}))

    fitted(callback(), Configured(0.5))
    content = torch.load(workspace / FILE, weights_only=True)
    assert content["hyper_parameters"] == {"lr": 0.5, "widths": [1, 2]}
    assert Configured.load_from_checkpoint(workspace / FILE).hparams.lr == 0.5


def test_saving_asks_a_copy_of_the_module_and_leaves_the_users_alone(callback):
    class Counting(Lit):
        saved = 0

        def on_save_checkpoint(self, checkpoint):
            self.saved += 1

    module = Counting()
    fitted(callback(), module)
    assert module.saved == 0


def test_a_checkpoint_that_cannot_be_read_is_told_after_the_first_epoch(callback, tmp_path):
    class Unreadable(Lit):
        def on_save_checkpoint(self, checkpoint):
            checkpoint["odd"] = Odd()

        def on_train_epoch_start(self):
            epochs.append(self.current_epoch)

    epochs = []
    saver = ModelCheckpoint(tmp_path / "kept")
    quantization = callback()
    with pytest.raises(QuantizationError, match="cannot be read with `weights_only=True`") as told:
        trainer(quantization, saver, enable_checkpointing=True, max_epochs=5).fit(
            Unreadable(lr=0.01), train_loader(), val_loader()
        )
    assert epochs == [0]
    assert "quantize the weights in memory with `ckpt='current'`" in str(told.value)
    assert quantization.result is None


def test_a_checkpoint_in_the_middle_of_an_epoch_is_looked_at_at_once(callback, tmp_path):
    class Unreadable(Lit):
        def on_save_checkpoint(self, checkpoint):
            checkpoint["odd"] = Odd()

    saver = ModelCheckpoint(tmp_path / "kept", every_n_train_steps=2)
    one = trainer(callback(), saver, enable_checkpointing=True, max_epochs=1)
    with pytest.raises(QuantizationError, match="weights_only"):
        one.fit(Unreadable(lr=0.01), train_loader(), val_loader())
    assert one.global_step <= 3


@pytest.mark.parametrize("content", [b"no checkpoint", None])
def test_a_file_that_is_no_checkpoint_of_ours_is_refused(callback, tmp_path, content):
    path = tmp_path / "other.ckpt"
    if content is None:
        torch.save({"state_dict": {}}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"other.ckpt"):
        lpot_lightning.load_from_checkpoint(Lit, path)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"cannot read `.*none.ckpt`: .*No such file"):
        lpot_lightning.load_from_checkpoint(Lit, tmp_path / "none.ckpt")


def test_a_changed_int8_tensor_is_noticed(callback, workspace):
    fitted(callback())
    content = torch.load(workspace / FILE, weights_only=True)
    weights = content["lpot_lightning"]["weights"]
    name = next(key for key, value in weights.items() if value.numel() > 3)
    weights[name] = weights[name] + 1
    torch.save(content, workspace / FILE)
    with pytest.raises(ArtifactError, match=f"{FILE}`: .* the file is damaged"):
        lpot_lightning.load_from_checkpoint(Lit, workspace / FILE)


def test_the_checkpoint_of_somebody_else_is_kept_and_ours_is_not(callback, workspace, caplog):
    caplog.set_level(logging.INFO)
    workspace.mkdir(parents=True)
    torch.save({"state_dict": Lit().state_dict()}, workspace / FILE)
    theirs = (workspace / FILE).read_bytes()
    for _ in range(2):
        fitted(callback())
    assert (workspace / "best_quantized.1.ckpt").read_bytes() == theirs
    assert not (workspace / "best_quantized.2.ckpt").exists()
    assert caplog.text.count("is none of ours: kept as") == 1
    load_from_checkpoint(Lit, workspace / FILE)


def test_a_checkpoint_that_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / FILE)
    with pytest.raises(ArtifactError, match="it is a FIFO; allowed: a regular file"):
        load_from_checkpoint(Lit, tmp_path / FILE)
    with pytest.raises(QuantizationError, match="it is a FIFO; allowed: a regular file"):
        read_checkpoint(str(tmp_path / FILE))


def test_a_tar_archive_is_not_unpacked(tmp_path):
    """Torch takes one for what it wrote until 2017, and unpacks all of it to the disk first."""
    (tmp_path / "pickle").write_bytes(b"N.")
    with tarfile.open(tmp_path / FILE, "w") as archive:
        archive.add(tmp_path / "pickle", "pickle")
    for refused, read in {
        ArtifactError: lambda: load_from_checkpoint(Lit, tmp_path / FILE),
        QuantizationError: lambda: read_checkpoint(str(tmp_path / FILE)),
    }.items():
        with pytest.raises(refused, match="it is a tar archive, which torch has not written since"):
            read()


def test_a_tune_config_inside_of_itself_is_refused(callback, workspace):
    fitted(callback())
    content = torch.load(workspace / FILE, weights_only=True)
    configure = content["lpot_lightning"]["configure"]
    configure["op"]["itself"] = {"activation": configure}
    torch.save(content, workspace / FILE)
    with pytest.raises(ArtifactError, match="a value is inside of itself"):
        load_from_checkpoint(Lit, workspace / FILE)


def test_another_class_is_refused(callback, workspace):
    class Other(Lit):
        def __init__(self, lr=0.0):
            super().__init__(lr)
            self.net = torch.nn.Linear(8, 3)

    fitted(callback())
    with pytest.raises(ArtifactError, match=f"{FILE}` is not of `Other`"):
        lpot_lightning.load_from_checkpoint(Other, workspace / FILE)


def test_extra_state_of_a_module_goes_with_the_checkpoint(callback, workspace):
    class Extra(Lit):
        def get_extra_state(self):
            return {"labels": ["a", "b"]}

        def set_extra_state(self, state):
            self.labels = state["labels"]

    one = callback()
    fitted(one, Extra())
    assert Extra.load_from_checkpoint(workspace / "best_quantized.ckpt").labels == ["a", "b"]
    restored = load_from_checkpoint(Extra, workspace / "best_quantized.ckpt")
    x = points(8).tensors[0]
    assert torch.equal(restored(x), one.result.model(x))


def test_what_a_hook_takes_out_and_lightning_needs_is_put_back(callback, workspace):
    class Bare(Lit):
        def on_save_checkpoint(self, checkpoint):
            checkpoint.clear()

    quantization = callback()
    fitted(quantization, Bare())
    x = points(8).tensors[0]
    int8 = lpot_lightning.load_from_checkpoint(Bare, workspace / FILE)
    assert torch.equal(int8(x), quantization.result.model(x))


def edited(path, change):
    """Let ``change`` edit a checkpoint, as somebody would who knows of no hash."""
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["hyper_parameters"].update(lr=0.5),
        lambda content: content["state_dict"]["net.0.weight"].zero_(),
        lambda content: content.update(epoch=7),
        lambda content: content.update(more=[1]),
    ],
)
def test_hyperparameters_and_fp32_weights_are_those_that_were_written(callback, workspace, change):
    fitted(callback(), Lit(lr=0.25), max_epochs=1)
    edited(workspace / FILE, change)
    with pytest.raises(ArtifactError, match=f"{FILE}`: its hyperparameters, or a tensor of the fp"):
        load_from_checkpoint(Lit, workspace / FILE)


def test_a_file_of_an_earlier_version_has_no_hash_over_them_and_is_read(callback, workspace):
    fitted(callback(), Lit(lr=0.25), max_epochs=1)
    edited(workspace / FILE, lambda content: content["lpot_lightning"].pop("sha256"))
    assert load_from_checkpoint(Lit, workspace / FILE).hparams.lr == 0.25


def test_any_record_of_a_checkpoint_is_held_against_its_sum(tmp_path):
    path, state = tmp_path / "some.ckpt", Lit().state_dict()
    torch.save({"state_dict": state}, path)
    content = bytearray(path.read_bytes())
    place = content.index(state["net.0.weight"].numpy().tobytes()[:16])
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(QuantizationError, match=r"its record `.*` is not what was written"):
        read_checkpoint(str(path))
    with pytest.raises(ArtifactError, match=r"its record `.*` is not what was written"):
        load_from_checkpoint(Lit, path)


def test_what_comes_back_as_another_type_is_no_reason_to_refuse_the_file(callback, workspace):
    class Odder(Lit):
        def on_save_checkpoint(self, checkpoint):
            checkpoint["odd"] = numpy.float64(0.1)

    fitted(callback(), Odder(), max_epochs=1)
    load_from_checkpoint(Odder, workspace / FILE)


def test_of_a_damaged_checkpoint_no_hyperparameters_are_blamed(tmp_path):
    path, weight = tmp_path / "one.ckpt", torch.arange(1000.0)
    torch.save({"state_dict": {"weight": weight}}, path)
    content = bytearray(path.read_bytes())
    content[content.index(weight.numpy().tobytes()) + 4] ^= 1
    path.write_bytes(content)
    with pytest.raises(QuantizationError, match="is damaged, or no checkpoint: its record") as told:
        read_checkpoint(str(path))
    assert "hyperparameters" not in str(told.value)
