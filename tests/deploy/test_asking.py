"""What is asked for is looked at before anything is exported."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from export_scenes import made_up
from torch import nn

from lpot_lightning.deploy.asking import export_as
from lpot_lightning.deploy.options import ExportOptions
from lpot_lightning.deploy.origin import Call, Origin
from lpot_lightning.errors import ConfError, ExportError

ORIGIN = Origin(root="", calls=(Call((torch.ones(1, 3),)),))


def told(kind, work, *given, **named):
    with pytest.raises(kind) as caught:
        work(*given, **named)
    return str(caught.value)


def test_what_is_asked_for_arrives(monkeypatch, tmp_path):
    exports, net, options = made_up(monkeypatch), nn.Linear(3, 2), ExportOptions(opset=20)
    exported = export_as(net, str(tmp_path / "a.pt2"), options, ORIGIN)
    (one,) = exports.asked
    assert (one.model, one.options, one.origin) == (net, options, ORIGIN)
    assert (one.path, exported.form) == (tmp_path / "a.pt2", "pt2")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_its_code_and_what_is_there_is_said(
    monkeypatch, tmp_path, number, caplog
):
    caplog.set_level("INFO")
    export = "lpot_lightning.deploy.export.export_model"
    monkeypatch.setattr(export, lambda *_: signal.raise_signal(number))
    with pytest.raises(SystemExit) as ended:
        export_as(nn.Linear(3, 2), tmp_path / "a.pt2", ExportOptions(), ORIGIN)
    assert ended.value.code == 128 + number
    said = f"interrupted: `{tmp_path / 'a.pt2'}` is as it was, or written as a whole; go on with"
    assert caplog.text.count(said) == 1


def test_the_home_folder_is_expanded(monkeypatch, tmp_path):
    made_up(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert export_as(nn.Linear(3, 2), "~/a.pt2", ExportOptions(), ORIGIN).path == (
        tmp_path / "a.pt2"
    )


def test_a_form_that_is_none(monkeypatch):
    exports = made_up(monkeypatch)
    assert "ends in no form of a model" in told(
        ConfError, export_as, nn.Linear(3, 2), "a.onx", ExportOptions(), ORIGIN
    )
    assert exports.asked == []


def test_a_package_that_is_missing(monkeypatch):
    exports = made_up(monkeypatch)
    monkeypatch.setattr("lpot_lightning.deploy.requirements.find_spec", lambda name: None)
    said = told(ExportError, export_as, nn.Linear(3, 2), "a.onnx", ExportOptions(), ORIGIN)
    assert "pip install 'lpot-lightning[onnx]'" in said
    assert exports.asked == []


def test_nothing_to_call_the_model_with(monkeypatch):
    exports = made_up(monkeypatch)
    assert told(ExportError, export_as, nn.Linear(3, 2), "a.pt2", ExportOptions()) == (
        "nobody knows what `Linear` is called with: give an `example`, a tensor, a tuple of"
        " arguments or a mapping of keyword arguments"
    )
    export_as(nn.Linear(3, 2), Path("a.pt2"), ExportOptions(example=torch.ones(1, 3)))
    assert len(exports.asked) == 1


def test_nobody_to_judge(monkeypatch):
    made_up(monkeypatch)
    said = told(ExportError, export_as, nn.Linear(3, 2), "a.pt2", ExportOptions(judge=True), ORIGIN)
    assert said == (
        "`judge` takes the metric of your own validation, and there is nobody to ask for it: use"
        " an `ExportCallback` in the fit, or `result.export(…, judge=True)` in the program that"
        " has quantized the model; to the `export` of a workspace give a `trainer`"
    )


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_is_told(tmp_path):
    script = torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2))
    with pytest.raises(ExportError, match="TorchScript already"):
        export_as(script, tmp_path / "m.onnx", ExportOptions(example=torch.ones(1, 2)))
