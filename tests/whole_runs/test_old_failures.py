"""What went wrong with Lightning's own quantization callback, and must not here.

The numbers are threads of github.com/Lightning-AI/pytorch-lightning.
"""

import inspect

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lit_scenes import Lit, fitted, same, train_loader, trainer, val_loader, weights_of
from torch import nn


def test_6457_the_users_checkpoints_hold_no_foreign_keys(callback, tmp_path):
    """``load_from_checkpoint`` met keys of observers that the class does not have."""
    saver = ModelCheckpoint(tmp_path / "kept", save_last=True)
    quantization = callback()
    one = fitted(quantization, Lit(), others=(saver,), enable_checkpointing=True, max_epochs=1)
    one.save_checkpoint(tmp_path / "kept/after.ckpt")
    assert len(list((tmp_path / "kept").iterdir())) == 3
    for path in (tmp_path / "kept").iterdir():
        assert same(weights_of(Lit.load_from_checkpoint(path)), weights_of(Lit()))


def test_12896_the_best_checkpoint_can_be_tested_after_the_fit(callback, tmp_path):
    """Quantized in place at fit end, the module could not take its own checkpoint any more."""
    saver = ModelCheckpoint(tmp_path / "kept", monitor="val_acc", mode="max")
    quantization = callback()
    one = fitted(quantization, Lit(), others=(saver,), enable_checkpointing=True, max_epochs=1)
    assert one.test(dataloaders=val_loader(), ckpt_path="best", verbose=False)
    int8 = quantization.result.model
    assert one.test(int8, val_loader(), verbose=False) == [{"val_acc": 1.0}]


def test_12896_the_module_can_be_trained_on(callback):
    """The live module was the quantized one, which cannot be trained."""
    quantization, module = callback(), Lit(lr=0.01)
    fitted(quantization, module)
    before = weights_of(module)
    trainer(max_epochs=1).fit(module, train_loader(), val_loader())
    assert not same(before, weights_of(module))


def test_10968_calling_either_model_quantizes_nothing_twice(callback, workspace):
    """A forward that was wrapped for training stayed wrapped after the conversion."""
    quantization, module = callback(), Lit()
    x = next(iter(val_loader()))[0]
    before = module(x)
    fitted(quantization, module)
    int8 = quantization.result.model
    assert "forward" not in vars(module)
    assert "forward" not in vars(int8)
    assert torch.equal(module(x), before)
    assert torch.equal(int8(x), int8(x))
    fitted(callback(), module)
    assert torch.equal(module(x), before)


class ManyWays(Lit):
    """Its network takes keywords, a tuple and a dict, and gives a dict."""

    class Net(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, pair, *, extra, scale=1.0):
            return {"logits": self.net(pair[0]) * scale + extra["bias"]}

    def __init__(self):
        super().__init__()
        self.net = self.Net(self.net)

    def forward(self, x, scale=1.0):
        return self.net((x, None), extra={"bias": torch.zeros(3)}, scale=scale)["logits"]

    def training_step(self, batch, batch_idx):
        return self(batch[0]).mean()

    def validation_step(self, batch, batch_idx):
        self.acc(self(batch[0], scale=2.0), batch[1])
        self.log("val_acc", self.acc)


def test_15862_and_7926_keywords_tuples_and_dicts_go_through(callback):
    """The wrapped forward took one tensor by position, and nothing else."""
    quantization, module = callback(), ManyWays()
    fitted(quantization, module)
    assert quantization.result.status == "met"
    int8 = quantization.result.model
    assert quantization.result.int8_ops
    assert inspect.signature(int8.forward) == inspect.signature(module.forward)
    x = next(iter(val_loader()))[0]
    fp32 = module(x, scale=2.0)
    assert (int8(x, scale=2.0) - fp32).norm() / fp32.norm() < 0.05


def test_7551_layers_are_quantized_that_never_see_the_modules_forward(callback):
    """Steps that call a submodule, and not ``self(x)``, went past the quantization."""

    class Beside(Lit):
        def forward(self, x):
            raise AssertionError("nobody calls this")

    quantization = callback()
    fitted(quantization, Beside())
    assert quantization.result.int8_ops == ("net.0", "net.2")


def test_7551_methods_of_a_submodule_other_than_forward_work(callback):
    """Also where the step calls something else of the submodule than its forward."""

    class Reaching(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net, self.width = net, 3

        def logits(self, x):
            return self.net(x)[:, : self.width]

    class Around(Lit):
        def __init__(self):
            super().__init__()
            self.model = Reaching(self.net)
            del self.net

        def training_step(self, batch, batch_idx):
            return self.model.logits(batch[0]).mean()

        def validation_step(self, batch, batch_idx):
            self.acc(self.model.logits(batch[0]), batch[1])
            self.log("val_acc", self.acc)

    quantization = callback()
    fitted(quantization, Around())
    assert quantization.result.int8_ops == ("model.net.0", "model.net.2")


def test_517_teardown_is_still_that_of_the_fit(callback):
    """A ``trainer.validate`` inside a hook made the fit end as a validation."""

    class Ending(Lit):
        def teardown(self, stage):
            stages.append((stage, self.trainer.state.fn))

    stages = []
    one = fitted(callback(), Ending())
    assert stages == [("fit", "fit")]
    assert one.state.finished
