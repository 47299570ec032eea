"""Validation steps that ask for gradients, as those of force fields do: int8 has none."""

import pytest
import torch
from lit_scenes import Lit, conf, train_loader, trainer, val_loader
from torch import nn

from lpot_lightning import QuantizationCallback, load, quantize
from lpot_lightning.errors import QuantizationError

WHY = "gradients go through it in the validation, and int8 has none"
LOSS = {"tuning": {"accuracy_criterion": {"relative": 0.05, "higher_is_better": False}}}


class Energy(nn.Module):
    """An energy of points of three kinds."""

    def __init__(self):
        super().__init__()
        self.kind = nn.Embedding(3, 8)
        self.mix, self.out = nn.Linear(8, 16), nn.Linear(16, 1)

    def forward(self, x, kinds):
        return self.out(torch.tanh(self.mix(x + self.kind(kinds))))


class Force(Lit):
    """Judges the gradient of an energy, and a head that nothing is derived of."""

    def __init__(self, head=True):
        super().__init__()
        self.energy, self.head = Energy(), nn.Linear(8, 1) if head else None

    def forces(self, batch):
        with torch.enable_grad():
            x = batch[0].clone().requires_grad_()
            energy = self.energy(x, batch[1]).sum()
            return torch.autograd.grad(energy, x)[0]

    def validation_step(self, batch, batch_idx):
        loss = self.forces(batch).square().mean()
        if self.head is not None:
            loss = loss + self.head(batch[0]).square().mean()
        self.log("val_loss", loss)


def test_what_is_derived_stays_in_fp32_and_the_rest_is_int8(workspace):
    quantization = QuantizationCallback(conf(workspace, **LOSS))
    one = trainer(quantization, max_epochs=1, inference_mode=False)
    module = Force()
    one.fit(module, train_loader(), val_loader())
    result = quantization.result
    assert (result.status, result.int8_ops) == ("met", ("energy.kind", "head"))
    assert result.not_quantizable["energy.mix"] == result.not_quantizable["energy.out"] == WHY
    batch = next(iter(val_loader()))
    torch.testing.assert_close(result.model.forces(batch), module.forces(batch), atol=0.1, rtol=0.1)
    again = load(workspace / "best_configure.yaml", workspace / "best_model_weights.pt", Force())
    assert torch.equal(again.forces(batch), result.model.forces(batch))


class Everywhere(Force):
    """Lets gradients go everywhere, and asks for none of them."""

    def validation_step(self, batch, batch_idx):
        with torch.enable_grad():
            self.log("val_loss", self.head(batch[0]).square().mean())


def test_where_nobody_asks_for_gradients_all_is_int8(workspace):
    one = trainer(inference_mode=False)
    given = conf(workspace, **LOSS)
    result = quantize(one, Everywhere(), train_loader(), val_loader(), conf=given)
    assert result.int8_ops == ("head",)


class Sharp(Force):
    """All of it is derived."""

    def __init__(self):
        super().__init__(head=False)
        self.energy.kind = nn.Identity()

    def forces(self, batch):
        return super().forces((batch[0], batch[0]))


@pytest.mark.parametrize("sanity", [0, 1])
def test_where_nothing_is_left_a_fit_ends_at_its_first_validation(sanity, workspace):
    quantization = QuantizationCallback(conf(workspace, **LOSS))
    one = trainer(quantization, max_epochs=3, inference_mode=False, num_sanity_val_steps=sanity)
    module = Sharp()
    with pytest.raises(QuantizationError, match="`Sharp` takes gradients through all of its"):
        one.fit(module, train_loader(), val_loader())
    assert one.global_step == (0 if sanity else 8)
    assert not any(layer._forward_hooks for layer in module.modules())


def test_where_nothing_is_left_it_is_said(workspace):
    with pytest.raises(QuantizationError, match=f"energy.*{WHY}"):
        quantize(
            trainer(inference_mode=False), Sharp(), train_loader(), val_loader(),
            conf=conf(workspace, **LOSS),
        )  # fmt: skip
