"""What a name in a pruner means."""

from __future__ import annotations

import pytest

from lpot_lightning.pruning.names import matches

BERT = [
    f"bert.encoder.layer.{layer}.{name}.weight"
    for layer in (0, 11)
    for name in ("attention.self.query", "attention.output.dense", "output.dense")
]
NET = ["conv1.weight", "conv2.weight", "conv_out.weight", "stage1.0.conv.weight", "emb.weight"]


def test_a_star_is_the_number_of_a_layer_as_in_lpot():
    found = matches("bert.encoder.layer.*.output.dense.weight", BERT)
    assert found.layers == {BERT[2]: "0", BERT[5]: "11"}
    assert found.passed == [BERT[1], BERT[4]]


def test_several_stars_are_numbers_and_the_first_is_the_layer():
    known = ["a.3.b.10.weight", "a.3.b.c.10.weight"]
    assert matches("a.*.b.*.weight", known).layers == {"a.3.b.10.weight": "3"}


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("*.weight", NET),
        ("*c*.weight", NET[:4]),
        ("stage*.weight", NET[3:4]),
        ("conv*.weight", NET[:2]),  # two numbers, and one that is none
        ("conv**.weight", NET[:3]),
        ("conv[12].weight", NET[:2]),
        ("conv?.weight", NET[:2]),
        ("conv1.weight", NET[:1]),
        ("none*", []),
    ],
)
def test_a_star_that_no_number_fits_is_any_text(pattern, meant):
    assert list(matches(pattern, NET).layers) == meant


def test_only_what_any_text_would_match_besides_is_passed():
    assert matches("conv*.weight", NET).passed == ["conv_out.weight"]
    assert matches("conv[1-9]*.weight", NET).passed == ()
    assert matches("conv1.weight", NET).passed == ()


def test_what_any_text_stands_for_is_the_layer_where_no_number_fits():
    known = ["first.up.weight", "second.up.weight"]
    assert matches("*.up.weight", known).layers == {known[0]: "first", known[1]: "second"}


def test_dots_and_brackets_of_names_are_no_expressions():
    assert matches("a.*.weight", ["a.0.weight", "ab0.weight", "a.0xweight"]).layers == {
        "a.0.weight": "0"
    }
