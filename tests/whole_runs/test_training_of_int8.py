"""An int8 model is given to a fit, which is told before the first batch."""

import copy

import pytest
from lit_scenes import Lit, conf, train_loader, trainer, val_loader
from qat_scenes import checkpoints, qat, trained

from lpot_lightning import load, load_from_checkpoint, quantize
from lpot_lightning.errors import QuantizationError


def refused(model, *data):
    one = trainer(max_epochs=1)
    with pytest.raises(QuantizationError, match="an int8 model cannot be trained, it has no grad"):
        one.fit(model, *(data or (train_loader(), val_loader())))
    assert one.global_step == 0


def test_each_way_to_an_int8_model(workspace):
    given = conf(workspace)
    fp32 = Lit(0.01)
    int8 = quantize(trainer(), fp32, train_loader(), val_loader(), conf=given).model
    files = workspace / "best_configure.yaml", workspace / "best_model_weights.pt"
    one_file = load_from_checkpoint(Lit, workspace / "best_quantized.ckpt")
    for model in (int8, copy.deepcopy(int8), load(*files, fp32)):
        refused(model)
    refused(one_file)
    trainer(max_epochs=1).fit(fp32, train_loader(), val_loader())  # it is as it was


def test_what_was_trained_for_int8(workspace):
    saved = checkpoints(workspace / "saved")
    training = qat(workspace)
    _, module = trained(training, None, saved, max_epochs=1)
    refused(load_from_checkpoint(type(module), saved.last_model_path))
