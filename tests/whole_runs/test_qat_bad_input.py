"""What a training for int8 refuses, before its first batch."""

import pytest
import torch
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy
from lit_scenes import Lit, conf, train_loader, trainer, val_loader
from qat_scenes import APPROACH, ConvLit, qat, train_images, val_images
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from lpot_lightning import QuantizationCallback
from lpot_lightning.errors import ConfError, EvaluationError, LpotError, QuantizationError

PTQ = "post_training_static_quant"


class Untrained(ConvLit):
    """Must not come to its first batch."""

    def training_step(self, batch, batch_idx):
        raise AssertionError("trained")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"quantization": {"approach": "post_training_static_quant"}},
            "use `QuantizationCallback`",
        ),
        ({"tuning": {"strategy": {"name": "random"}}}, "allowed: `auto`, `basic`, `mse`"),
        ({"baseline": "high"}, "`baseline` is `'high'`; allowed: a number"),
        ({"baseline": float("nan")}, "`baseline` is `nan`"),
        ({"baseline": True}, "`baseline` is `True`"),
        ({"freeze_observers": -1}, "`freeze_observers` is `-1`; allowed: an epoch"),
        ({"freeze_batch_norm": 1.5}, "`freeze_batch_norm` is `1.5`"),
        ({"ckpt": "newest"}, "`ckpt` is `newest`"),
        ({"modules": "net"}, "`modules` is `'net'`; allowed: a list"),
    ],
)
def test_arguments(workspace, given, said):
    with pytest.raises(ConfError, match=said):
        qat(workspace, **given)
    assert not workspace.exists()


def test_the_other_callback_for_this_approach():
    with pytest.raises(ConfError, match="use `QATCallback`"):
        QuantizationCallback(conf(quantization=APPROACH))


def refused(callback, error, module=None, data=None, **given):
    """Return what a fit is refused with; nothing is left behind in the module."""
    module = Untrained() if module is None else module
    one = trainer(callback, **{"max_epochs": 4, **given})
    with pytest.raises(error) as caught:
        one.fit(module, *((train_images(), val_images()) if data is None else data))
    assert not any("forward" in vars(part) for part in module.modules())
    assert callback.result is None
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "epochs", "said"),
    [
        ({"freeze_observers": 4}, 4, "`freeze_observers` is 4, and `max_epochs` is 4: no epoch is"),
        ({"freeze_batch_norm": 9}, 4, "`freeze_batch_norm` is 9, and `max_epochs` is 4"),
        ({"freeze_observers": 0}, 4, "would never be learned"),
        ({"freeze_observers": 1}, 1, "train longer, freeze earlier"),
    ],
)
def test_epochs_that_are_too_few(workspace, given, epochs, said):
    assert said in refused(qat(workspace, **given), ConfError, max_epochs=epochs)
    assert not workspace.exists()


def test_nothing_can_be_trained(workspace):
    module = Untrained()
    module.net.requires_grad_(False)
    module.extra = nn.Parameter(torch.zeros(1))
    said = refused(qat(workspace), QuantizationError, module)
    assert "no layer that would be int8 can be trained" in said
    assert "`net.0`" in said
    assert "or use post-training quantization" in said


def test_nothing_can_be_int8(workspace):
    class Bare(Lit):
        def __init__(self):
            super().__init__()
            self.net, self.acc = nn.LayerNorm(8), MulticlassAccuracy(8)

    said = refused(qat(workspace), QuantizationError, Bare(), (train_loader(), val_loader()))
    assert "no op of `Bare` can be quantized" in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"modules": ["nte"]}, "matches no module. Did you mean `net`?"),
        ({"quantization": {"op_wise": {"net.7": {"weight": {"dtype": ["fp32"]}}}}}, "net.7"),
        (
            {"quantization": {"model_wise": {"activation": {"algorithm": "kl"}}}},
            "no|minmax",
        ),
    ],
)
def test_names_and_wishes(workspace, given, said):
    found = refused(qat(workspace, **given), ConfError)
    assert any(one in found for one in said.split("|"))


@pytest.mark.parametrize("strategy", [FSDPStrategy, DeepSpeedStrategy])
def test_strategies_that_split_the_model(workspace, strategy, monkeypatch):
    callback = qat(workspace)
    one = trainer(callback, max_epochs=1)
    monkeypatch.setattr(type(one), "strategy", object.__new__(strategy))
    with pytest.raises(
        QuantizationError, match=f"`{strategy.__name__}` keeps the weights in pieces"
    ):
        callback.setup(one, ConvLit(), "fit")


def test_no_validation_data(workspace):
    said = refused(qat(workspace), EvaluationError, data=(train_images(),))
    assert "there is no validation data" in said


def test_two_callbacks(workspace):
    others = QuantizationCallback(conf(workspace))
    one = trainer(others, qat(workspace), max_epochs=1)
    with pytest.raises(ConfError, match=r"2 callbacks that quantize \(QuantizationCallback, QAT"):
        one.fit(Untrained(), train_images(), val_images())


def test_a_validation_that_fails(workspace):
    class Failing(Untrained):
        def validation_step(self, batch, batch_idx):
            raise ValueError("no")

    said = refused(qat(workspace), LpotError, Failing())
    assert "ValueError: no" in said


def test_barebones(workspace):
    with pytest.raises(EvaluationError, match="barebones"):
        trainer(
            qat(workspace), barebones=True, logger=None, enable_checkpointing=None,
            enable_progress_bar=None, enable_model_summary=None, num_sanity_val_steps=None,
        ).fit(Untrained(), train_images(), val_images())  # fmt: skip


def test_data_that_are_not_finite_are_told(workspace):
    """Not before the first batch, and not by a model that is worth nothing either."""
    nothing = TensorDataset(torch.full((16, 1, 8, 8), float("nan")), torch.arange(16) % 4)
    one = trainer(qat(workspace), max_epochs=1)
    with pytest.raises(LpotError, match="its weight is not finite"):
        one.fit(ConvLit(), DataLoader(nothing, batch_size=4), val_images())
