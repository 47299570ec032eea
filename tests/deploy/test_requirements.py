"""What an export needs besides this package."""

from __future__ import annotations

import pytest

from lpot_lightning.deploy.options import ExportOptions
from lpot_lightning.deploy.requirements import check_installed, compiler
from lpot_lightning.errors import ExportError


@pytest.fixture
def without(monkeypatch):
    def missing(*names):
        found = {"onnx", "onnxscript", "onnxruntime", "openvino"} - set(names)
        monkeypatch.setattr(
            "lpot_lightning.deploy.requirements.find_spec",
            lambda name: object() if name in found else None,
        )

    return missing


def told(form, **options):
    with pytest.raises(ExportError) as caught:
        check_installed(form, ExportOptions(**options))
    return str(caught.value)


def test_all_of_it_is_there(without):
    without()
    for form in ("onnx", "openvino", "pt2", "torchscript"):
        check_installed(form, ExportOptions())


def test_onnx_needs_its_packages(without):
    without("onnx", "onnxscript")
    assert told("onnx") == (
        "an export to onnx needs `onnx`, `onnxscript`, which are not installed: `pip install"
        " 'lpot-lightning[onnx]'`"
    )


def test_a_file_is_checked_in_the_runtime_that_it_is_for(without):
    without("onnxruntime")
    check_installed("onnx", ExportOptions())
    assert "needs `onnxruntime`, which is not" in told("onnx", target="onnxruntime")
    check_installed("onnx", ExportOptions(target="onnxruntime", check=False))
    without("openvino")
    assert "pip install 'lpot-lightning[openvino]'" in told("onnx", target="openvino")
    without("onnxruntime", "openvino")
    assert "needs `onnxruntime`" in told("onnx")
    check_installed("onnx", ExportOptions(check=False))


def test_openvino_comes_by_onnx(without):
    without("onnxscript", "openvino")
    assert told("openvino", check=False) == (
        "an export to openvino needs `openvino`, `onnxscript`, which are not installed: `pip"
        " install 'lpot-lightning[openvino,onnx]'`"
    )


def test_what_torch_writes_needs_nothing(without):
    without("onnx", "onnxscript", "onnxruntime", "openvino")
    check_installed("pt2", ExportOptions())
    check_installed("torchscript", ExportOptions())


def test_aoti_needs_a_compiler(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    assert compiler() == "/bin/g++"
    monkeypatch.setenv("CXX", "clang++-18")
    assert compiler() == "/bin/clang++-18"
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert told("aoti") == (
        "an export to aoti compiles C++, and there is no compiler: install `g++`, `clang++`,"
        " `c++`, or say in `CXX` where one is"
    )
