"""What exports came to is kept, read back as it was, and not believed when it is damaged."""

import json
from pathlib import Path

import pytest

from lpot_lightning.deploy.export_records import keep_exports, read_exports
from lpot_lightning.deploy.exported import Checked, Exported
from lpot_lightning.errors import ArtifactError
from lpot_lightning.timing.ratio import Ratio

CHECKED = Checked(
    runtime="onnxruntime 1.32",
    samples=32,
    largest=0.1,
    relative=0.001,
    from_int8=0.002,
    agreement=0.98,
    int8_ops=9,
    ms=1.5,
    speedup=Ratio(2.0, (1.9, 2.1)),
)


def exported(path, **given):
    usual = {"form": "onnx", "target": "onnxruntime", "bytes": 7, "int8_ops": 9}
    usual |= {"inputs": {"x": ("batch", 8)}, "outputs": ("y",), "checked": CHECKED}
    return Exported(path=path, **{**usual, **given})


def test_what_is_kept_is_read_as_it_was(tmp_path):
    one, other = exported(Path("a.onnx")), exported(Path("/elsewhere/b.pt2"), checked=None)
    keep_exports(tmp_path, [exported(tmp_path / "a.onnx"), other])
    assert read_exports(tmp_path) == (one, other)


def test_the_last_export_of_a_file_counts(tmp_path):
    for size in (7, 9):
        keep_exports(tmp_path, [exported(tmp_path / "a.onnx", bytes=size)])
    assert [one.bytes for one in read_exports(tmp_path)] == [9]


def test_a_workspace_without_exports_has_none(tmp_path):
    assert read_exports(tmp_path) == ()


def test_a_damaged_file_is_told(tmp_path):
    keep_exports(tmp_path, [exported(tmp_path / "a.onnx")])
    path = tmp_path / "exports.json"
    path.write_bytes(path.read_bytes().replace(b"0.98", b"0.99"))
    with pytest.raises(ArtifactError, match=r"exports\.json` is damaged, or was edited: its SHA"):
        read_exports(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"exports": 3},
        {"exports": [{}]},
        {"exports": [1]},
        {"bytes": "7"},
        {"outputs": "y"},
        {"inputs": {"x": 3}},
        {"notes": [1]},
        {"checked": {"runtime": "x"}},
        {"path": 3},
        {"more": 1},
    ],
)
def test_what_no_export_comes_to_is_refused(tmp_path, change):
    keep_exports(tmp_path, [exported(tmp_path / "a.onnx")])
    path = tmp_path / "exports.json"
    plain = json.loads(path.read_bytes())
    del plain["sha256"]
    (plain if "exports" in change else plain["exports"][0]).update(change)
    path.write_text(json.dumps(plain))
    with pytest.raises(ArtifactError, match="is not what lpot_lightning writes"):
        read_exports(tmp_path)
