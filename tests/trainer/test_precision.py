"""Weights in half and double precision are quantized from float32 copies."""

import logging

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.precision import BitsandbytesPrecision, TransformerEnginePrecision
from lit_scenes import Lit, conf, fitted, points, train_loader, trainer, val_loader, weights_of
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanMetric
from users_world import kept

from lpot_lightning import load, load_from_checkpoint, quantize
from lpot_lightning.errors import EvaluationError, QuantizationError
from tests.whole_runs.test_trainer_zoo import quantized

TYPES = {"bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64}
each_type = pytest.mark.parametrize(("precision", "dtype"), TYPES.items())


class Hinting(Lit):
    """Makes tensors in the type that the module says it has."""

    def validation_step(self, batch, batch_idx):
        mask = torch.ones(3, dtype=self.dtype, device=self.device)
        assert self.dtype == self.net[-1].bias.dtype == batch[0].dtype
        self.acc(self.net(batch[0]) * mask, batch[1])
        self.log("val_acc", self.acc)


def in_type(dtype):
    """Return training and validation data in ``dtype``."""
    pairs = (points(count, seed).tensors for count, seed in ((120, 0), (48, 1)))
    return [DataLoader(TensorDataset(x.to(dtype), y), batch_size=16) for x, y in pairs]


@each_type
def test_a_training_in_another_type(callback, workspace, precision, dtype, caplog):
    caplog.set_level(logging.INFO)
    quantization, module = callback(), Hinting(lr=0.01)
    quantized(quantization, module, precision=precision)
    assert module.net[0].weight.dtype is module.dtype is dtype
    name = str(dtype).removeprefix("torch.")
    assert f"weights are {name}: quantized from float32 copies" in caplog.text
    state = torch.load(workspace / "best_quantized.ckpt", weights_only=True)["state_dict"]
    assert {one.dtype for one in state.values()} == {torch.float32}


@each_type
def test_such_a_model_is_restored(callback, workspace, precision, dtype):
    quantization, module = callback(), Lit(lr=0.01)
    quantized(quantization, module, precision=precision)
    before, x = weights_of(module), points(8).tensors[0]
    files = workspace / "best_configure.yaml", workspace / "best_model_weights.pt"
    wanted = quantization.result.model(x)
    for fp32 in (module, Lit(), Lit().half()):
        assert torch.equal(load(*files, fp32)(x), wanted)
    assert torch.equal(load_from_checkpoint(Lit, workspace / "best_quantized.ckpt")(x), wanted)
    assert weights_of(module).keys() == before.keys()
    assert module.net[0].weight.dtype is dtype


@each_type
def test_the_best_checkpoint_of_such_a_training(callback, tmp_path, precision, dtype):
    saver = ModelCheckpoint(tmp_path / "kept", monitor="val_acc", mode="max")
    quantized(callback(), others=(saver,), enable_checkpointing=True, precision=precision)
    saved = torch.load(saver.best_model_path, weights_only=True)["state_dict"]
    assert saved["net.0.weight"].dtype is dtype


@each_type
def test_a_module_that_is_cast_by_hand_with_its_data(workspace, precision, dtype, caplog):
    caplog.set_level(logging.INFO)
    module, one = Lit().to(dtype), trainer()
    with kept(one, module):
        result = quantize(one, module, *in_type(dtype), conf=conf(workspace))
    assert (result.status, len(result.int8_ops)) == ("met", 2)
    assert "quantized from float32 copies" in caplog.text


def test_a_trainer_in_another_type_judges_a_float32_module(workspace):
    """The loader gives what only this trainer would cast."""
    module, one = Lit(), trainer(precision="bf16-true")
    with kept(one, module):
        assert quantize(one, module, *in_type(torch.float64), conf=conf(workspace)).status == "met"


def test_metrics_count_in_float32(callback):
    class Mean(Lit):
        def __init__(self, lr=0.0):
            super().__init__(lr)
            self.mean = MeanMetric()

        def validation_step(self, batch, batch_idx):
            self.mean.update(self.net(batch[0]).argmax(1) == batch[1])
            self.log("val_acc", self.mean)
            seen.append(self.mean.mean_value.dtype)

        test_step = validation_step

    seen = []
    quantized(callback(), Mean(lr=0.01), precision="bf16-true")
    assert seen[:3] == [torch.bfloat16] * 3
    assert set(seen[3:]) == {torch.float32}


def test_tensors_of_other_types_are_left_alone(callback):
    class Buffers(Lit):
        def __init__(self, lr=0.0):
            super().__init__(lr)
            self.net.bfloat16()
            self.register_buffer("table", torch.arange(3, dtype=torch.float64))
            self.register_buffer("order", torch.arange(3))

    quantization = callback()
    fitted(quantization, Buffers(), *in_type(torch.bfloat16))
    model = quantization.result.model
    assert (model.table.dtype, model.order.dtype) == (torch.float64, torch.int64)


class Stubborn(Lit):
    """Casts to one type, whatever its weights are in."""

    def __init__(self, lr=0.0):
        super().__init__(lr)
        self.net.bfloat16()

    def training_step(self, batch, batch_idx):
        return super().training_step([batch[0].bfloat16(), batch[1]], batch_idx)

    def validation_step(self, batch, batch_idx):
        super().validation_step([batch[0].bfloat16(), batch[1]], batch_idx)


def test_a_module_that_casts_to_one_type_is_told_what_to_do(callback, workspace):
    match = "the validation loop fails: RuntimeError: .*; .*cast to the type of the weights"
    with pytest.raises(EvaluationError, match=match):
        fitted(callback(), Stubborn())
    module, one = Stubborn(), trainer()
    with kept(one, module), pytest.raises(EvaluationError, match=match):
        quantize(one, module, train_loader(), val_loader(), conf=conf(workspace))
    assert [path.name for path in workspace.iterdir()] == ["lock"]


@pytest.mark.parametrize("kind", [BitsandbytesPrecision, TransformerEnginePrecision])
def test_precisions_with_layers_of_their_own_are_refused(callback, workspace, kind):
    one, module = trainer(callback(), max_epochs=1), Lit()
    one.strategy._precision_plugin = object.__new__(kind)
    with pytest.raises(QuantizationError, match=f"`{kind.__name__}` puts layers of its own"):
        quantize(one, module, train_loader(), val_loader(), conf=conf(workspace))
    with pytest.raises(QuantizationError, match=f"`{kind.__name__}` puts layers of its own"):
        one.callbacks[-1].setup(one, module, "fit")
    assert not workspace.exists()
