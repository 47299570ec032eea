"""The three templates are read, and their callbacks obey all of it."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from lpot_lightning.conf.exporting import arguments_of
from lpot_lightning.conf.ownership import check_for_callback
from lpot_lightning.conf.reader import read_conf

TEMPLATES = {"ptq": "QuantizationCallback", "qat": "QATCallback", "pruning": "PruningCallback"}


def text_of(template):
    folder = resources.files("lpot_lightning.conf") / "templates"
    return (folder / f"{template}.yaml").read_text()


@pytest.mark.parametrize(("template", "callback"), TEMPLATES.items())
def test_a_template_is_read_without_a_warning(write, template, callback):
    conf = read_conf(write(text_of(template)))
    check_for_callback(conf, callback)
    assert read_conf(conf.to_dict()) == conf


@pytest.mark.parametrize("template", ["ptq", "qat"])
def test_the_lines_of_a_template_show_the_defaults(write, template):
    conf = read_conf(write(text_of(template)))
    bare = read_conf(
        {
            "model": {"name": "my_model", "framework": "pytorch_fx"},
            "quantization": {"approach": conf.quantization.approach},
            "evaluation": {"accuracy": {}},
        }
    )
    assert conf == bare


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_examples_in_a_template_are_read_too(write, template):
    lines = [
        re.sub(r"^( *)# (?=[ \w].*[:}])", r"\1", line) if line.startswith("  ") else line
        for line in text_of(template).splitlines()
    ]
    text = "\n".join(line for line in lines if not re.match(r" +(absolute|#)", line))
    conf = read_conf(write(text))
    assert conf.tuning.accuracy_criterion.higher_is_better is True
    assert [name for name, _ in conf.quantization.op_wise] == {
        "ptq": ["net.head", r"net\.blocks\.[01]\..*"],
        "qat": ["net.head"],
        "pruning": [],
    }[template]


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_example_of_an_export_is_read_too(write, template):
    head, _, export = text_of(template).partition("# export:")
    lines = [f"  {line[4:]}" for line in export.splitlines()[1:]]
    conf = read_conf(write("\n".join([head, "export:", *lines])))
    assert arguments_of(conf.export) == {
        "formats": ("onnx", "pt2"),
        "target": "onnxruntime",
        "dynamic": True,
        "check": True,
        "judge": False,
    }
