"""For whom a YAML is: as the readers themselves say."""

from __future__ import annotations

import warnings

import pytest
from conf_scenes import conf_of
from lpots_yamls import READERS, TEXTS

import lpot_lightning
from lpot_lightning.commands.for_whom import verdicts
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.errors import ConfError

TRAIN = {
    "end_epoch": 1,
    "optimizer": {"SGD": {"learning_rate": 1}},
    "criterion": {"CrossEntropyLoss": {}},
}
QAT = {"approach": "quant_aware_training"}


def verdict(reader, **sections):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        conf = read_conf(conf_of(**sections))
    return next(one for one in verdicts(conf) if one.reader == reader)


@pytest.mark.parametrize("name", READERS)
def test_the_files_of_lpot_are_for_whom_they_were(write, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        conf = read_conf(write(TEXTS[name]))
        found = {one.reader: not one.reasons for one in verdicts(conf)}
        assert [reader for reader in found if found[reader]] == [*READERS[name], "Benchmark"]
        for reader in found:
            try:
                getattr(lpot_lightning, reader)("ptq.yaml")
                taken = True
            except ConfError:
                taken = False
            # What is named and not built may be replaced in code: the object can be created then.
            assert taken or not found[reader], reader
            if reader.endswith("Callback"):
                assert taken == found[reader], reader


BLOCK = {"dataset": {"ImageFolder": {"root": "nowhere"}}}
RAW = {"dataset": {"COCORaw": {"root": "a"}}}


def at_accuracy(**fields):
    return {"evaluation": {"accuracy": fields}}


WRONG = {
    "data not built": (
        "Quantization",
        {"quantization": {"calibration": {"dataloader": RAW}}},
        "`quantization.calibration.dataloader`: the data set `COCORaw` is not built yet: boxes",
    ),
    "data of other frameworks": (
        "Quantization",
        at_accuracy(dataloader={"dataset": {"TFRecordDataset": {"root": "a"}}}),
        "`evaluation.accuracy.dataloader`: `TFRecordDataset` is for other frameworks than PyT",
    ),
    "a transform": (
        "Quantization",
        at_accuracy(dataloader={**BLOCK, "transform": {"Cast": {"dtype": "int3"}}}),
        "`evaluation.accuracy.dataloader`, `transform`: `Cast`: `dtype` is `int3`; allowed",
    ),
    "random numbers": (
        "Quantization",
        at_accuracy(dataloader={"dataset": {"dummy": {"shape": [2, 3], "dtype": "odd"}}}),
        "`evaluation.accuracy.dataloader`, `dataset`: `dummy`: `dtype` is `odd`; allowed",
    ),
    "a metric": (
        "Quantization",
        at_accuracy(metric={"COCOmAP": {}}),
        "`evaluation.accuracy.metric`: `COCOmAP` is for other frameworks than PyTorch; anoth",
    ),
    "a direction": (
        "Quantization",
        {
            **at_accuracy(metric={"MSE": {}}),
            "tuning": {"accuracy_criterion": {"relative": 0.1, "higher_is_better": True}},
        },
        "whether a higher `MSE` is better is contradicted",
    ),
    "a training": (
        "Quantization",
        {"quantization": {**QAT, "train": {**TRAIN, "optimizer": None}}},
        "`quantization.train`: `optimizer` is missing; for example",
    ),
    "data of a training": (
        "Quantization",
        {"quantization": {**QAT, "train": {**TRAIN, "dataloader": RAW}}},
        "`quantization.train.dataloader`: the data set `COCORaw` is not built yet",
    ),
    "data to time on": (
        "Benchmark",
        {"evaluation": {"performance": {"dataloader": RAW}}},
        "`evaluation.performance.dataloader`: the data set `COCORaw` is not built yet",
    ),
}


@pytest.mark.parametrize(("reader", "sections", "said"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_made_here_is_told_to_who_needs_it(reader, sections, said):
    found = verdict(reader, **sections)
    assert len(found.reasons) == 1
    assert found.reasons[0].startswith(f"<mapping>: {said}")
    callback = "QATCallback" if QAT.items() <= sections.get("quantization", {}).items() else None
    assert verdict(callback or "QuantizationCallback", **sections).reasons == ()


def test_no_file_is_looked_for():
    sections = at_accuracy(dataloader=BLOCK, metric={"topk": 1})
    assert verdict("Quantization", **sections).reasons == ()


def test_a_strategy_whose_packages_are_missing_is_told_to_who_searches(monkeypatch):
    monkeypatch.setattr("lpot_lightning.tuning.strategies.table.find_spec", lambda name: None)
    sections = {"tuning": {"strategy": {"name": "tpe"}}}
    for reader in ("QuantizationCallback", "Quantization"):
        assert "which needs `optuna`" in verdict(reader, **sections).reasons[0]
    assert verdict("Benchmark", **sections).reasons == ()


def test_what_has_no_effect_for_whom():
    configs = {"configs": {"cores_per_instance": 10_000}}
    sections = {
        "evaluation": {"accuracy": {"metric": {"mAP": {}}, **configs}, "performance": configs}
    }
    said = {
        one: " ".join(verdict(one, **sections).remarks) for one in ("Quantization", "Benchmark")
    }
    assert (
        "without effect for `Quantization`: `evaluation.accuracy.configs`" in said["Quantization"]
    )
    assert "not for `Benchmark` with `mode='accuracy'`: " in said["Benchmark"]
    assert "not for `Benchmark` on this machine: " in said["Benchmark"]


EXPORT = {"export": {"formats": ["onnx", "pt2"]}}


def test_an_export_is_for_those_who_do_it(monkeypatch):
    for reader in ("QuantizationCallback", "Quantization"):
        found = verdict(reader, **EXPORT)
        assert found.reasons == ()
        assert "`export`" in found.remarks[0]
    assert (
        "take both from `callbacks_from_conf`"
        in verdict("QuantizationCallback", **EXPORT).remarks[0]
    )
    assert "call `export(path)` of the `result`" in verdict("Quantization", **EXPORT).remarks[0]
    assert verdict("Benchmark", **EXPORT).remarks == ()


def test_packages_that_an_export_needs_and_are_not_here(monkeypatch):
    monkeypatch.setattr("lpot_lightning.deploy.requirements.find_spec", lambda name: None)
    found = verdict("QuantizationCallback", **EXPORT)
    assert found.reasons == ()
    assert found.remarks[1].startswith(
        "<mapping>: not for an `ExportCallback` on this machine: an export to onnx needs `onnx`"
    )


def test_a_pruning_alone_exports_nothing():
    pruning = {"approach": {"weight_compression": {"pruners": [{}]}}}
    found = verdict("Pruning", pruning=pruning, **EXPORT)
    assert "without effect for `Pruning`: `export`: call `export(path)`" in found.remarks[0]
