"""The tune config: each op says what it is, and every field is sealed."""

import pytest
import torch
import yaml

from lpot_lightning.artifacts.tune_config import (
    FORMAT,
    check_configure,
    hash_in,
    seal,
    with_rungs,
)
from lpot_lightning.errors import ArtifactError
from lpot_lightning.machine.plain_yaml import read_plain_yaml

OP = {"activation": {"dtype": "uint8"}}
CONFIGURE = {
    "accuracy": {"int8": 0.9, "met": True},
    "probe": {"": {"args": [{"tuple": [1, float("nan")]}], "tolerance": 0.02}},
    "weights": {"file": "w.pt", "sha256": "a", "content": "b"},
}


def test_an_op_says_how_many_bits_it_has_and_a_backend_may_say_it_itself():
    ops = with_rungs({"a": OP, "b": {"activation": {"dtype": "fp32"}}, "c": {**OP, "bits": 4}})
    found = [(op["rung"], op["bits"]) for op in ops.values()]
    assert found == [("int8", 8), ("fp32", 32), ("int8", 4)]


def test_a_table_says_what_the_result_says_of_it():
    table = {"activation": {"dtype": "uint8", "scheme": "placeholder"}}
    assert with_rungs({"a": table})["a"]["rung"] == "int8"


def test_a_seal_is_the_same_after_a_file_and_with_tuples():
    again = read_plain_yaml(yaml.safe_dump(CONFIGURE, sort_keys=False).encode())
    assert seal(again, {}) == seal(CONFIGURE, {})
    with_tuple = {**CONFIGURE, "probe": {"": {"args": (1, (2,))}}}
    with_list = {**CONFIGURE, "probe": {"": {"args": [1, [2]]}}}
    assert seal(with_tuple, {}) == seal(with_list, {})


@pytest.mark.parametrize(
    "change",
    [
        {"accuracy": {"int8": 0.95, "met": True}},
        {"new": None},
        {"probe": {}},
        {"weights": {**CONFIGURE["weights"], "file": "other.pt"}},
    ],
    ids=str,
)
def test_every_field_is_sealed(change):
    assert seal({**CONFIGURE, **change}, {}) != seal(CONFIGURE, {})


def test_tensors_are_sealed_and_the_hashes_are_not():
    others = {**CONFIGURE, "weights": {"file": "w.pt", "sha256": "c", "content": "d"}}
    assert seal(others, {}) == seal(CONFIGURE, {})
    assert seal(CONFIGURE, {"x": torch.ones(1)}) != seal(CONFIGURE, {"x": torch.zeros(1)})


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("format: lpot_lightning/1\nweights: {sha256: abc}", "abc"),
        ("format: lpot_lightning/9\nweights: {sha256: abc}", "abc"),
        ("format: lpot_lightning/2\nweights: {sha256: 3}", None),
        ("format: lpot_lightning/2\nweights: 3", None),
        ("format: other\nweights: {sha256: abc}", None),
        ("[", None),
    ],
)
def test_weights_of_an_older_file_of_ours_are_known_as_ours(content, found):
    assert hash_in(content.encode()) == found


def test_what_attention_is_computed_in_is_known_or_refused():
    whole = {
        "format": FORMAT,
        **dict.fromkeys(("op", "modules", "signatures", "probe", "fp32_model"), {}),
        "backend": "onednn",
        "engine": "onednn",
        "reduce_range": False,
        "parts": [],
        "weights": {"sha256": "a"},
    }
    for known in ({}, {"float": "fp32"}, {"float": "bf16"}):
        check_configure({**whole, **known})
    with pytest.raises(ArtifactError, match="`float` is `fp8`; this version has `fp32`, `bf16`"):
        check_configure({**whole, "float": "fp8"})
