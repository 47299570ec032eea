"""The ops of a workspace as a table."""

from lpot_lightning.commands.ops_table import ops_table

INT8 = {
    "kind": "Conv2d",
    "rung": "int8",
    "activation": {"dtype": "uint8", "scheme": "asym", "algorithm": "kl", "scale": 0.0123},
    "weight": {"dtype": "int8", "scheme": "sym", "granularity": "per_channel"},
}
FP32 = {"kind": "Linear", "rung": "fp32", "activation": {"dtype": "fp32"}, "weight": None}


def test_what_all_have_in_common_is_said_once():
    assert ops_table({"a": INT8, "b": INT8, "c": FP32}).split("\n") == [
        "op  kind    precision  scale",
        "a   Conv2d  int8       0.0123",
        "b   Conv2d  int8       0.0123",
        "c   Linear  fp32",
        "",
        "all activations  uint8 asym kl",
        "all weights      int8 sym per_channel",
    ]


def test_what_one_has_alone_stands_beside_it():
    other = {**INT8, "weight": {"dtype": "int8", "scheme": "sym", "granularity": "per_tensor"}}
    lines = ops_table({"a": INT8, "b": INT8, "c": other}).split("\n")
    assert lines[0].endswith("scale   weight")
    assert lines[3].endswith("0.0123  int8 sym per_tensor")
    assert lines[-2:] == ["all activations  uint8 asym kl", "other weights    int8 sym per_channel"]


def test_long_names_leave_the_table_in_80_columns():
    name = "backbone.features.stage4.block11.attention.query_projection.linear"
    assert max(map(len, ops_table({name: INT8, f"{name}2": INT8}).split("\n"))) <= 80


def test_a_model_all_in_fp32_has_a_table():
    assert "fp32" in ops_table({"a": FP32})
