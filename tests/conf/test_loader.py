"""YAML that surprises, and YAML that attacks."""

from __future__ import annotations

import time

import pytest
from conf_scenes import conf_of, refusal

from lpot_lightning.conf.document import read_document
from lpot_lightning.conf.reader import read_conf

MODEL = "model: {name: net, framework: pytorch_fx}\n"


def laughs() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-2", 0.01),
        ("1E3", 1000.0),
        ("-.5", -0.5),
        ("1_000", 1000),
        ("+7", 7),
        ("0", 0),
        ("1.", 1.0),
        ("~", None),
        ("", None),
        ("yes", True),
        ("Off", False),
        ("TRUE", True),
        ("012", "012"),
        ("12:30", "12:30"),
        ("0x1f", "0x1f"),
        ("2021-08-21", "2021-08-21"),
        ("1.6.0", "1.6.0"),
        ("=", "="),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("!!float 1", 1.0),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("e5", "e5"),
        ("._", "._"),
    ],
)
def test_a_value_means_what_was_written(write, text, value):
    found = read_document(write(f"key: {text}\n")).value["key"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "ptq.yaml is empty; it needs `model` with `name` and `framework`."),
        ("# nothing\n", "ptq.yaml is empty; it needs `model` with `name` and `framework`."),
        ("- a\n", "ptq.yaml:1: the file is a list; allowed: a mapping."),
        ("just text", "ptq.yaml:1: the file is `just text`; allowed: a mapping."),
        (
            "a: 1\n---\nb: 1\n",
            "ptq.yaml:2: not valid YAML: expected a single document in the stream, "
            "but found another document.",
        ),
        (
            "model:\n\tname: net",
            "ptq.yaml:2: not valid YAML: while scanning for the next token, "
            "found character '\\t' that cannot start any token. Indent with blanks: YAML takes no"
            " tabs there.",
        ),
        (
            "model: {name: net\n",
            "ptq.yaml:2: not valid YAML: while parsing a flow mapping, "
            "expected ',' or '}', but got '<stream end>'.",
        ),
        ("a: *b", "ptq.yaml:1: not valid YAML: found undefined alias 'b'."),
        (b"model: \x00", "ptq.yaml: not valid YAML: special characters are not allowed."),
        (b"# caf\xe9", "ptq.yaml is not UTF-8 text (byte 5)."),
        ("#" * (2**20 + 1), "ptq.yaml is larger than 1 MiB; allowed: a YAML configuration."),
        (f"{MODEL}device: cpu\ndevice: cpu\n", "ptq.yaml:3: `device` is given twice."),
        ("? [a]\n: b\n", "ptq.yaml:1: a key must be one word, not a list or a mapping."),
        (
            "model: !!python/object/apply:os.system [ls]",
            "ptq.yaml:1: the tag "
            "`!!python/object/apply:os.system` is not allowed here; allowed: `!Pruner` before a "
            "mapping in `pruners`.",
        ),
        (
            "model: !!binary aGk=",
            "ptq.yaml:1: the tag `!!binary` is not allowed here; allowed: "
            "`!Pruner` before a mapping in `pruners`.",
        ),
        (
            "model: !Pruner {name: net}",
            "ptq.yaml:1: the tag `!Pruner` is not allowed here; allowed: "
            "`!Pruner` before a mapping in `pruners`.",
        ),
        ("model: !!int text", "ptq.yaml:1: `model` is `text`, which cannot be read."),
        ("model: !!bool text", "ptq.yaml:1: `model` is `text`, which cannot be read."),
        ("model: {<<: 3}", "ptq.yaml:1: `<<` takes a mapping."),
        ("[" * 2000, "ptq.yaml is nested deeper than 50 levels."),
        ("{a: " * 2000, "ptq.yaml is nested deeper than 50 levels."),
        ("model: &a [*a]", "ptq.yaml is nested deeper than 50 levels."),
        ("model: &a {<<: *a}", "ptq.yaml is nested deeper than 50 levels."),
        (f"model: [{'1, ' * 200_000}]", "ptq.yaml holds more than 10,000 values."),
        (laughs(), "ptq.yaml holds more than 10,000 values."),
    ],
)
def test_hostile_text_is_refused_at_once(write, text, said):
    name = write(text)
    start = time.process_time()
    assert refusal(name) == said
    assert time.process_time() - start < 2


@pytest.mark.parametrize("digits", [19, 4_000, 100_000])
def test_a_number_with_too_many_digits_is_refused(write, digits):
    text = refusal(write(f"{MODEL}tuning: {{random_seed: {'9' * digits}}}"))
    assert text.startswith("ptq.yaml:2: `tuning.random_seed` is ")
    assert len(text) < 200


def test_a_mapping_that_holds_itself_is_refused():
    conf = conf_of()
    conf["tuning"] = conf
    assert refusal(conf) == "the mapping is nested deeper than 50 levels."


def test_a_mapping_that_is_too_large_is_refused():
    assert refusal(conf_of(tuning=[1] * 10_001)) == "the mapping holds more than 10,000 values."


def test_a_text_with_control_characters_is_refused(write):
    text = refusal(write('model: {name: "\\0", framework: pytorch}'))
    assert text == "ptq.yaml:1: `model.name` is `\\x00`; allowed: printable text that is not empty."


def test_anchors_and_merges_are_understood(write):
    name = write(
        MODEL + "quantization:\n  op_wise:\n"
        "    a: &fp32\n      weight: {dtype: fp32}\n"
        "    b: *fp32\n"
        "    c:\n      <<: *fp32\n      activation: {dtype: fp32}\n"
    )
    ops = dict(read_conf(name).quantization.op_wise)
    assert ops["a"] == ops["b"]
    assert ops["c"].weight == ops["a"].weight
    assert ops["c"].activation.dtype == ("fp32",)


def test_an_error_inside_an_alias_is_told(write):
    name = write(
        MODEL + "quantization:\n  model_wise: &wish\n    weight: {dtype: int8}\n"
        "  op_wise:\n    b:\n      <<: *wish\n      wait: 1\n"
    )
    assert refusal(name).startswith("ptq.yaml:8: `quantization.op_wise.b.wait` is not a known key;")
