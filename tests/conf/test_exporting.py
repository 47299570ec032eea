"""The `export` section."""

from __future__ import annotations

import pytest
from conf_scenes import conf_of, refusal

from lpot_lightning.conf.exporting import ENDINGS, FORMS, arguments_of
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.conf.schema import ExportConf
from lpot_lightning.deploy import options
from lpot_lightning.deploy.names import file_names, options_of
from lpot_lightning.errors import ConfError

ALLOWED = (
    "allowed: `onnx`, `openvino`, `pt2`, `aoti`, `torchscript`, or names of files that end in"
    " `.onnx`, `.xml`, `.pt2`, `.aoti.pt2`, `.ts`."
)


def section(**fields):
    return read_conf(conf_of(export={"formats": ["onnx"], **fields})).export


def test_none_is_none():
    assert read_conf(conf_of()).export is None


def test_formats_are_enough():
    assert section(formats="onnx, pt2") == ExportConf(formats=("onnx", "pt2"))


def test_formats_are_needed():
    assert refusal(conf_of(export={"judge": True})) == "`export.formats` is missing."


WRONG = {
    "another form": (["onxn"], f"`export.formats` has `onxn`; {ALLOWED} Did you mean `onnx`?"),
    "another ending": (["net.tflite"], f"`export.formats` has `net.tflite`; {ALLOWED}"),
    "twice": (["onnx", "onnx"], "`export.formats` has a name twice; allowed: each another one."),
}


@pytest.mark.parametrize(("formats", "said"), WRONG.values(), ids=WRONG)
def test_formats_that_are_none(formats, said):
    assert refusal(conf_of(export={"formats": formats})) == said


def test_a_misspelt_key_is_told_with_its_line(write):
    name = write(
        "model: {name: net, framework: pytorch_fx}\n"
        "export:\n  formats: [onnx]\n  tarjet: openvino\n"
    )
    assert refusal(name) == (
        "ptq.yaml:4: `export.tarjet` is not a known key; allowed in `export`: `formats`,"
        " `method`, `dynamic`, `input_names`, `output_names`, `opset`, `target`, `check`, `judge`."
        " Did you mean `target`?"
    )


@pytest.mark.parametrize("dynamic", [True, False])
def test_sizes_that_may_be_any_or_not(dynamic):
    assert section(dynamic=dynamic).dynamic is dynamic


def test_dimensions_by_the_names_of_inputs(write):
    name = write(
        "model: {name: net, framework: pytorch_fx}\n"
        "export: {formats: [onnx], dynamic: {tokens: {0: batch, 1: length}}}\n"
    )
    conf = read_conf(name)
    given = arguments_of(conf.export)
    assert given["dynamic"] == {"tokens": {0: "batch", 1: "length"}}
    assert read_conf(conf.to_dict()) == conf


@pytest.mark.parametrize(
    ("dynamic", "said"),
    [
        ("batch", "`export.dynamic` is `batch`; allowed: `true` (the first dimension, as `batch`)"),
        ({}, "`export.dynamic` is an empty mapping; allowed: `true`"),
        ({"x": "batch"}, "`export.dynamic.x` is `batch`; allowed: numbers of dimensions, each wi"),
        ({"x": {"first": "batch"}}, "`export.dynamic.x.first` is no number of a dimension; allo"),
        ({"x": {0: None}}, "`export.dynamic.x.0` is missing."),
    ],
)
def test_dimensions_that_are_none(dynamic, said):
    assert refusal(conf_of(export={"formats": ["onnx"], "dynamic": dynamic})).startswith(said)


def test_names_twice():
    said = refusal(conf_of(export={"formats": ["onnx"], "input_names": ["a", "a"]}))
    assert said == "`export.input_names` has a name twice; allowed: each another one."


def test_what_is_given_becomes_arguments():
    given = arguments_of(section(formats=["onnx", "pt2"], opset=20, judge=True))
    formats = given.pop("formats")
    assert file_names(formats) == ("model.onnx", "model.pt2")
    assert options_of(given) == options.ExportOptions(opset=20, judge=True)


def test_defaults_are_those_of_the_options():
    given = arguments_of(section())
    assert given.pop("formats") == ("onnx",)
    assert options_of(given) == options.ExportOptions()


def test_it_knows_the_forms_and_runtimes_there_are():
    assert tuple(options.FORMS) == ENDINGS
    assert tuple(options.FORMS.values()) == FORMS
    for target in options.TARGETS:
        assert section(target=target).target == target
    with pytest.raises(ConfError):
        section(target="tensorrt")
