"""What an export is asked for, as people write it."""

from __future__ import annotations

import pytest

from lpot_lightning.deploy.names import file_names, options_of
from lpot_lightning.deploy.options import ExportOptions
from lpot_lightning.errors import ConfError


def told(work, given):
    with pytest.raises(ConfError) as caught:
        work(given)
    return str(caught.value)


def test_options_by_name():
    found = options_of({"target": "openvino", "judge": True})
    assert found == ExportOptions(target="openvino", judge=True)


def test_an_unknown_option_is_told_with_the_nearest():
    assert told(options_of, {"targt": "openvino"}) == (
        "`targt` is no option of an export; allowed: `method`, `example`, `dynamic`,"
        " `input_names`, `output_names`, `opset`, `target`, `check`, `judge`. Did you mean"
        " `target`?"
    )


def test_names_of_files():
    asked = ["onnx", ".pt2", "openvino", "aoti.pt2", "torchscript", "small/net.onnx"]
    assert file_names(asked) == (
        "model.onnx", "model.pt2", "model.xml", "model.aoti.pt2", "model.ts", "small/net.onnx",
    )  # fmt: skip


WRONG = {
    "none": ([], "`formats` is `[]`; allowed: a list of `onnx`, `openvino`, `pt2`, `aoti`,"),
    "a text": ("onnx", "`formats` is `onnx`; allowed: a list of `onnx`,"),
    "a number": ([3], "`formats` has `3`; allowed: texts, such as `onnx`,"),
    "another": (["onxn"], "Did you mean `onnx`?"),
    "twice": (["onnx", ".onnx"], "`formats` asks for `model.onnx` twice: give each file a name"),
}


@pytest.mark.parametrize(("asked", "said"), WRONG.values(), ids=WRONG)
def test_names_that_are_none(asked, said):
    assert said in told(file_names, asked)
