"""What newcomers call wrongly, without a fit and afterwards, and the words that put it right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sensor_scenes import Sensor, conf, quantized, records, train_loader, trainer, val_loader
from torch import nn
from torch.ao.nn.quantized import FloatFunctional
from torch.utils.data import DataLoader, TensorDataset

import lpot_lightning
from lpot_lightning import (
    Benchmark,
    Quantization,
    TuningResult,
    load,
    load_from_checkpoint,
    quantize,
)
from lpot_lightning.errors import ConfError, DataError, EvaluationError, ExportError, LpotError

BOTH = train_loader(), val_loader()
BY_F1 = {"conf": conf(), "monitor": "val/f1"}


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))


def pairs() -> DataLoader:
    x = torch.stack([one["x"] for one in records(120)])
    return DataLoader(TensorDataset(x, torch.zeros(120)), 20)


class Named(nn.Module):
    """Takes its input by name."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 3)

    def forward(self, image):
        return self.fc(image)


class Unsized:
    def __iter__(self):
        return iter([{"features": torch.rand(100, 16)}])


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Return the result of a run that was good."""
    return quantized(tmp_path_factory.mktemp("good"))


def files(result: TuningResult) -> list[Path]:
    names = "best_configure.yaml", "best_model_weights.pt"
    return [Path(result.workspace, name) for name in names]


def fp32_checkpoint() -> str:
    one = trainer(max_epochs=1)
    one.fit(Sensor(), *BOTH)
    one.save_checkpoint("fp32.ckpt")
    return "fp32.ckpt"


def judged_by(eval_func: object) -> Callable[[], object]:
    return lambda: Quantization(conf())(plain(), q_dataloader=pairs(), eval_func=eval_func)


def of_the_face(name: str) -> Callable[[], object]:
    return lambda: getattr(lpot_lightning, name)


WRONG: dict[str, tuple[Callable[[], object], type[Exception], list[str]]] = {
    "model and trainer swapped": (
        lambda: quantize(Sensor(), trainer(), *BOTH, **BY_F1),
        ConfError,
        ["`trainer` is a `Sensor`", "comes first: `quantize(trainer, model, …)`"],
    ),
    "no data": (
        lambda: quantize(trainer(), Sensor(), **BY_F1),
        EvaluationError,
        ["there is no validation data: pass `val_dataloaders`, or define `val_dataloader()`"],
    ),
    "no conf": (lambda: quantize(trainer(), Sensor(), *BOTH), TypeError, ["argument: 'conf'"]),
    "a checkpoint that is not there": (
        lambda: quantize(trainer(), Sensor(), *BOTH, **BY_F1, ckpt_path="none.ckpt"),
        LpotError,
        ["cannot read `none.ckpt`: No such file"],
    ),
    "the best checkpoint of a Trainer without one": (
        lambda: quantize(trainer(), Sensor(), *BOTH, **BY_F1, ckpt_path="best"),
        EvaluationError,
        ["`ckpt_path` is `best`, but the trainer saved no such checkpoint"],
    ),
    "an fp32 checkpoint": (
        lambda: load_from_checkpoint(Sensor, fp32_checkpoint()),
        LpotError,
        ["it holds no quantized model; the file to give is `best_quantized.ckpt`"],
    ),
    "nothing to judge by": (
        lambda: Quantization(conf())(plain(), q_dataloader=pairs()),
        ConfError,
        ["there is no `eval_func` to judge by: give a function that takes a model and returns"],
    ),
    "nothing to calibrate on": (
        lambda: Quantization(conf())(plain(), eval_func=lambda model: 1.0),
        DataError,
        ["there is no data to calibrate on: give a `q_dataloader`"],
    ),
    "two numbers": (
        judged_by(lambda model: (0.5, 0.6)),
        EvaluationError,
        ["`eval_func` returned a `tuple`; allowed: one number, the accuracy"],
    ),
    "an eval_func that fails": (
        judged_by(lambda model: 1 / 0),
        EvaluationError,
        ["`eval_func` fails with the fp32 model (ZeroDivisionError: division by zero)"],
    ),
    "a path in the place of a model": (
        lambda: Quantization(conf())("model.pt", q_dataloader=pairs(), eval_func=lambda model: 1),
        ConfError,
        ["`model` is a `str`; allowed: an `nn.Module`", "load what is in a file first"],
    ),
    "a dict of other names": (
        lambda: Quantization(conf())(Named(), q_dataloader=Unsized(), eval_func=lambda model: 1),
        DataError,
        ["unexpected keyword argument 'features'", "called with the input", "a dict by name"],
    ),
    "a benchmark of no data": (
        lambda: Benchmark(conf())(plain()),
        ConfError,
        ["there is no data to show the model: give a `b_dataloader`"],
    ),
    "a name of British spelling": (
        of_the_face("QuantisationCallback"),
        AttributeError,
        ["Did you mean `QuantizationCallback`?"],
    ),
}

AFTER: dict[str, tuple[Callable[[TuningResult], object], type[Exception], list[str]]] = {
    "an int8 model": (
        lambda result: quantize(trainer(), result.model, *BOTH, **BY_F1),
        LpotError,
        ["is int8 already; quantize the fp32 model"],
    ),
    "another name of the configuration": (
        lambda result: load("best_config.yaml", files(result)[1], Sensor()),
        LpotError,
        ["best_config.yaml`, which is not there; a run leaves `best_configure.yaml`"],
    ),
    "a folder": (
        lambda result: load(files(result)[0].parent, files(result)[0].parent, Sensor()),
        LpotError,
        ["`tune_cfg_file` is the folder", "allowed: the file `best_configure.yaml`"],
    ),
    "a model of another width": (
        lambda result: load(*files(result), Sensor(24)),
        LpotError,
        ["`net.0.weight` of the model is float32[24, 16], that of the files is float32[16, 16]"],
    ),
    "an ending of others": (
        lambda result: result.export("model.tflite"),
        ConfError,
        ["`model.tflite` ends in no form of a model; allowed: `.onnx`"],
    ),
    "torch's own export": (
        lambda result: torch.export.export(result.model, (torch.rand(2, 16),)),
        AttributeError,
        ['`result.export("model.pt2")`', '`result.export("model.onnx")`'],
    ),
    "a part that goes by values": (
        lambda result: result.export("model.onnx"),
        ExportError,
        ["decides by a value of a tensor, `value < 100.0`, in line", "leave values out of cond"],
    ),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("give", "kind", "words"), WRONG.values(), ids=WRONG)
def test_what_is_said_puts_it_right(give, kind, words):
    with pytest.raises(kind) as told:
        give()
    assert [word for word in words if word not in str(told.value)] == []


@pytest.mark.usefixtures("with_graphs")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("give", "kind", "words"), AFTER.values(), ids=AFTER)
def test_what_is_said_of_a_result_puts_it_right(give, kind, words, result):
    with pytest.raises(kind) as told:
        give(result)
    assert [word for word in words if word not in str(told.value)] == []


def test_a_name_that_is_imported():
    with pytest.raises(ImportError, match="Did you mean `QuantizationCallback`?"):
        from lpot_lightning import QuantisationCallback  # noqa: F401


def test_ops_of_eager_models_by_the_names_that_they_had():
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.f_cat = nn.Linear(16, 8), nn.Linear(16, 8), FloatFunctional()

        def forward(self, x):
            return self.f_cat.cat([self.a(x), self.b(x)], dim=1)

    asked = conf(quantization={"op_wise": {"f_cat": {"activation": {"dtype": ["fp32"]}}}})
    one = Quantization(asked)
    one(Joined(), q_dataloader=pairs(), eval_func=lambda model: 1.0)
    assert one.result.status == "met"
