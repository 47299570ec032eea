"""`open_file`: which runtime a file gets, and files that are none."""

from __future__ import annotations

import sys
import warnings

import pytest
from file_scenes import conv_file, exported, images, scripted, xml_file
from torch import nn

from lpot_lightning.deploy.running.runtimes import open_file, runtime_name
from lpot_lightning.errors import ArtifactError, ConfError, ExportError


def test_the_ending_says_what_runs_a_file(tmp_path):
    made = {
        conv_file(tmp_path / "model.onnx"): "ONNX Runtime 1.",
        xml_file(tmp_path / "own.xml"): "OpenVINO 20",
        exported(tmp_path / "model.pt2"): "torch 2.",
        scripted(tmp_path / "model.ts", nn.ReLU(), images()): "torch 2.",
    }
    for path, name in made.items():
        assert open_file(path).name.startswith(name)
        assert open_file(str(path)).name == runtime_name(path)


def test_onnx_in_openvino(tmp_path):
    opened = open_file(conv_file(tmp_path / "model.onnx"), runtime="openvino")
    assert opened.name.startswith("OpenVINO 20")


def test_onnx_where_only_openvino_is_installed(tmp_path, monkeypatch):
    path = conv_file(tmp_path / "model.onnx")
    found = lambda name: None if name == "onnxruntime" else name  # noqa: E731
    monkeypatch.setattr("lpot_lightning.deploy.running.runtimes.find_spec", found)
    assert open_file(path).name.startswith("OpenVINO 20")


@pytest.mark.parametrize(
    ("ending", "package", "extra"),
    [(".onnx", "onnxruntime", "onnx"), (".xml", "openvino", "openvino")],
)
def test_an_extra_that_is_missing(tmp_path, monkeypatch, ending, package, extra):
    path = (xml_file if ending == ".xml" else conv_file)(tmp_path / f"model{ending}")
    monkeypatch.setitem(sys.modules, package, None)
    runtime = package if ending == ".onnx" else None
    for call in (open_file, runtime_name):
        with pytest.raises(ExportError) as caught:
            call(path, runtime=runtime)
        assert str(caught.value) == (
            f"the file is run by `{package}`, which is not installed, or too old: `pip install"
            f" 'lpot-lightning[{extra}]'`"
        )


def test_a_runtime_that_does_not_run_the_form(tmp_path):
    with pytest.raises(ConfError) as caught:
        open_file(exported(tmp_path / "model.pt2"), runtime="openvino")
    assert str(caught.value) == ("`runtime` is `openvino`; allowed for `model.pt2`: `torch`.")


def test_what_is_not_there(tmp_path):
    with pytest.raises(ArtifactError) as caught:
        open_file(tmp_path / "model.onnx")
    assert str(caught.value) == (
        f"`{tmp_path}/model.onnx` is not there; allowed: a file that a model was exported to"
    )
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(ArtifactError, match="`.*/model.onnx` is a folder; allowed: a file"):
        open_file(tmp_path / "model.onnx")


def test_the_ending_of_no_form():
    with pytest.raises(ConfError, match="`model.tflite` ends in no form of a model"):
        open_file("model.tflite")


DAMAGED = {
    "model.onnx": "cannot be opened by ONNX Runtime 1",
    "model.xml": "cannot be opened by OpenVINO 20",
    "model.pt2": "is damaged, or no file of torch: it is no zip archive",
    "model.aoti.pt2": "is damaged, or no file of torch: it is no zip archive",
    "model.ts": "is damaged, or no file of torch: it is no zip archive",
}


@pytest.mark.parametrize(("name", "text"), DAMAGED.items(), ids=DAMAGED)
def test_damaged_files(tmp_path, capfd, name, text):
    (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(ArtifactError) as caught:
        open_file(tmp_path / name)
    assert str(caught.value).startswith(f"`{tmp_path / name}` {text}")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_damaged_onnx_file_in_openvino(tmp_path, capfd):
    (tmp_path / "model.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(ArtifactError, match="cannot be opened by OpenVINO 20"):
        open_file(tmp_path / "model.onnx", runtime="openvino")
    assert capfd.readouterr() == ("", "")


def test_the_users_filters_of_warnings_stay(tmp_path):
    path = scripted(tmp_path / "model.ts", nn.ReLU(), images())
    before = list(warnings.filters)
    open_file(path)
    assert warnings.filters == before
