"""Exports, each with its check."""

from pathlib import Path

from lpot_lightning.deploy.exported import Checked, Exported
from lpot_lightning.report.exports import exports_section
from lpot_lightning.timing.ratio import Ratio

CHECKED = Checked(
    runtime="onnxruntime 1.32", samples=32, largest=0.1, relative=0.001, from_int8=0.002,
    agreement=0.98, int8_ops=8, ms=1.5, speedup=Ratio(2.0, (1.9, 2.1)),
)  # fmt: skip


def exported(**given):
    usual = {"path": Path("m.onnx"), "form": "onnx", "target": "onnxruntime", "bytes": 1_500_000}
    usual |= {"inputs": {}, "outputs": (), "int8_ops": 9}
    return Exported(**{**usual, **given})


def test_a_check_is_told_with_all_its_numbers():
    found = exports_section([exported(checked=CHECKED, notes=("a note",))])
    told = (
        "1.5 MB",
        "9, run as 8",
        "0.00100",
        "0.00200",
        "98.00%",
        "onnxruntime 1.32, 32 samples",
        "a note",
    )
    assert [one for one in told if one not in found] == []
    assert "speed-up 2.00x (1.90x to 2.10x) over torch" in found


def test_what_was_not_checked_says_so():
    found = exports_section([exported()])
    assert "not checked" in found
    assert "%" not in found


def test_an_accuracy_stands_beside_that_of_the_model():
    found = exports_section([exported(monitor="acc", accuracy=0.9, int8_accuracy=0.91)])
    assert "<code>acc</code> 0.9000, in torch 0.9100" in found


def test_without_an_export_there_is_no_section():
    assert exports_section([]) is None
