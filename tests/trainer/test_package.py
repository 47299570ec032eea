"""Lightning under both of its names: classes are found in the package of whoever they are for."""

import copy
import inspect
import subprocess

import lightning.pytorch as L
import pytest
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.model_helpers import is_overridden
from lit_scenes import Lit, Points, conf, trainer, val_loader
from older_scenes import OlderLit, OlderPoints, older_trainer, pl
from warm_python import python

from lpot_lightning import QuantizationCallback, quantize
from lpot_lightning.errors import EvaluationError
from lpot_lightning.trainer.borrowed_loop import BorrowedLoop
from lpot_lightning.trainer.package import EitherCallback, check_packages, either, of, package_of


class OwnTrainer(pl.Trainer):
    """A user's."""


def test_help_shows_what_a_callback_is_made_with():
    class Own(QuantizationCallback):
        def __init__(self, speed: int):
            super().__init__(conf(), monitor=str(speed))

    assert str(inspect.signature(QuantizationCallback)).startswith("(conf: ")
    assert "calib: 'Source' = 'train'" in str(inspect.signature(QuantizationCallback))
    assert str(inspect.signature(Own)) == "(speed: int)"


def test_the_package_is_that_of_the_class_it_derives_from():
    assert package_of(Lit()) == "lightning.pytorch"
    assert package_of(OlderLit()) == "pytorch_lightning"
    assert package_of(OwnTrainer(accelerator="cpu", logger=False)) == "pytorch_lightning"
    assert package_of("text") is None


def test_classes_and_functions_of_that_package():
    assert of(OlderLit(), _EvaluationLoop).__module__ == "pytorch_lightning.loops.evaluation_loop"
    assert of(OlderLit(), is_overridden)("validation_step", OlderLit())
    assert of(Lit(), _EvaluationLoop) is _EvaluationLoop
    assert of("text", _EvaluationLoop) is _EvaluationLoop


def test_instances_of_either():
    assert isinstance(pl.callbacks.ModelCheckpoint(), either(ModelCheckpoint))
    assert isinstance(ModelCheckpoint(), either(ModelCheckpoint, WeightAveraging))
    assert not isinstance(pl.callbacks.EarlyStopping("loss"), either(ModelCheckpoint))


def test_a_class_that_the_other_package_has_not_is_passed_by(monkeypatch):
    monkeypatch.delattr(pl.callbacks.weight_averaging, "WeightAveraging")
    assert either(WeightAveraging) == (WeightAveraging,)


@pytest.mark.parametrize("one", [trainer, older_trainer])
def test_the_borrowed_loop_is_of_the_package_of_its_trainer(one):
    lent = one()
    lent.state.fn = TrainerFn.VALIDATING
    loop = BorrowedLoop(lent, CombinedLoader([val_loader()], "sequential"), [1])
    assert isinstance(loop, BorrowedLoop)
    assert isinstance(loop, of(lent, _EvaluationLoop))
    assert package_of(loop) == package_of(lent)
    assert type(loop) is type(BorrowedLoop(lent, loop._combined_loader, [1]))


def test_callbacks_are_callbacks_of_both(workspace):
    callback = QuantizationCallback(conf(workspace))
    assert isinstance(callback, L.Callback)
    assert isinstance(callback, pl.Callback)
    assert isinstance(copy.deepcopy(callback), EitherCallback)
    assert callback in pl.Trainer(accelerator="cpu", logger=False, callbacks=callback).callbacks


def test_two_packages_at_once_are_told():
    said = "`OlderLit` is of `pytorch_lightning`, and the Trainer of `lightning.pytorch`"
    with pytest.raises(EvaluationError, match=said):
        quantize(trainer(), OlderLit(), val_dataloaders=val_loader(), conf=conf())
    with pytest.raises(EvaluationError, match="import both from `pytorch_lightning`"):
        quantize(older_trainer(), OlderLit(), datamodule=Points(), conf=conf())
    check_packages(older_trainer(), OlderLit(), OlderPoints(), None)


def test_another_version_is_told(monkeypatch):
    monkeypatch.setattr(pl, "__version__", "2.4.0")
    with pytest.raises(EvaluationError, match=r"`pytorch_lightning` is 2\.4\.0, and `lightning`"):
        quantize(older_trainer(), OlderLit(), val_dataloaders=val_loader(), conf=conf())


def test_the_older_name_is_imported_by_nobody_but_the_user():
    asked = "import sys, lpot_lightning as lp; lp.quantize, lp.QATCallback, lp.BenchmarkCallback"
    code = f"{asked}; assert 'pytorch_lightning' not in sys.modules"
    subprocess.run([python(), "-c", code], check=True)
