"""A `.ts`: any method as a trace, packed when it is loaded."""

from __future__ import annotations

import warnings

import pytest
import torch
from deploy_scenes import answer, captured, images, small_int8
from lightning.pytorch import LightningModule
from rung_scenes import MIXED, ladder, words
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from lpot_lightning.deploy.native.torchscript import write_torchscript
from lpot_lightning.errors import ExportError


def loaded(path):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit")
        return torch.jit.load(path)


def test_the_bits_are_those_of_the_model_and_weights_are_packed(tmp_path):
    write_torchscript(small_int8(), captured(small_int8()), tmp_path / "model.ts")
    script = loaded(tmp_path / "model.ts")
    assert "prepack" not in script.code
    for count in (1, 4, 7):
        assert torch.equal(script(images(count)), answer(small_int8(), images(count))[0])


def test_rungs_below_int8_are_kept_as_integers(tmp_path):
    write_torchscript(ladder(), captured(ladder(), words(4)), tmp_path / "model.ts")
    script = loaded(tmp_path / "model.ts")
    assert script.code.count(".pack_") == len(MIXED) - 1  # rows of tables are made of ids
    for count in (1, 4, 7):
        assert torch.equal(script(words(count)), answer(ladder(), words(count))[0])


def test_a_method_gives_its_tensors_in_their_order(tmp_path):
    whole = captured(small_int8(), path="encode")
    write_torchscript(small_int8(), whole, tmp_path / "model.ts")
    found, wanted = loaded(tmp_path / "model.ts")(images(3)), small_int8().encode(images(3))
    assert all(map(torch.equal, found, [wanted["features"], wanted["mean"]]))


class Stubborn(nn.Module):
    """It can be captured, and not traced."""

    def forward(self, x):
        return x * 2 if not torch.jit.is_tracing() else {}["no trace"]


def test_what_cannot_be_traced_is_told_and_leaves_nothing(tmp_path):
    model = Stubborn()
    whole = captured(model, images(2))
    with pytest.raises(ExportError, match=r"`torch.jit.trace` cannot record `forward`.*`.pt2`"):
        write_torchscript(model, whole, tmp_path / "model.ts")
    assert list(tmp_path.iterdir()) == []


class Lit(LightningModule):
    """Its property for a Trainer is an error where there is none."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(x)


def test_a_lightning_module_without_a_trainer(tmp_path):
    model, x = Lit().eval(), torch.randn(4, 3)
    write_torchscript(model, captured(model, x), tmp_path / "model.ts")
    assert torch.equal(loaded(tmp_path / "model.ts")(x), answer(model, x)[0])
    assert not model._jit_is_scripting


def test_old_properties_of_torchmetrics_are_no_word_to_the_user(tmp_path):
    class Judged(LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.accuracy = small_int8(), MulticlassAccuracy(5)

        def forward(self, images):
            return self.net(images)

    model = Judged().eval()
    write_torchscript(model, captured(model), tmp_path / "model.ts")  # warnings are errors
    assert torch.equal(loaded(tmp_path / "model.ts")(images(4)), answer(model, images(4))[0])
