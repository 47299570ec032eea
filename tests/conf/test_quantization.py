"""The `model`, `device`, `version` and `quantization` sections."""

from __future__ import annotations

import pytest
from conf_scenes import conf_of, not_yet, quantized, refusal, remark

from lpot_lightning import recipe
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.recipe import CORRECTIONS


def op(wish):
    return conf_of(quantization={"op_wise": {"conv1": wish}})


@pytest.mark.parametrize("version", [1, 1.0, "1", "1.0", "1.6", "1.6.0"])
def test_every_version_1_is_read(version):
    assert read_conf(conf_of(version=version)).version.startswith("1.")


@pytest.mark.parametrize("version", [2, 0.9, "2.0", "latest", "1.x"])
def test_another_version_is_refused(version):
    said = f"`version` is `{version}`; allowed: `1.0`, the version of LPOT's format."
    assert refusal(conf_of(version=version)) == said


@pytest.mark.parametrize("framework", ["pytorch", "pytorch_fx"])
def test_the_frameworks_that_are_built(framework):
    conf = read_conf({"model": {"name": "net", "framework": framework}})
    assert conf.model.framework == framework


@pytest.mark.parametrize(
    ("framework", "said"),
    [
        (
            "tensorflow",
            "`model.framework` is `tensorflow`, and this is for PyTorch only; use `pytorch_fx`.",
        ),
        (
            "onnxrt_qlinearops",
            "`model.framework` is `onnxrt_qlinearops`, and this is for PyTorch only; "
            "use `pytorch_fx`.",
        ),
        (
            "pytorch_ipex",
            "`model.framework` is `pytorch_ipex`, Intel's discontinued extension; "
            "use `pytorch_fx`.",
        ),
        (
            "pytorchfx",
            "`model.framework` is `pytorchfx`; allowed: `pytorch_fx`, `pytorch`. "
            "Did you mean `pytorch_fx`?",
        ),
        (
            "PyTorch",
            "`model.framework` is `PyTorch`; allowed: `pytorch_fx`, `pytorch`. "
            "Did you mean `pytorch`?",
        ),
    ],
)
def test_other_frameworks_are_refused(framework, said):
    assert refusal({"model": {"name": "net", "framework": framework}}) == said


def test_pt2e_is_not_built_yet():
    assert not_yet({"model": {"name": "net", "framework": "pytorch_pt2e"}}) == (
        "`model.framework` is `pytorch_pt2e`, a backend that is not built yet; use `pytorch_fx`."
    )


@pytest.mark.parametrize("name", ["/etc", "~root", "../up", "a/../../b", ".."])
def test_a_name_that_leads_out_of_the_workspace_is_refused(name):
    said = refusal({"model": {"name": name, "framework": "pytorch"}})
    assert said == (
        f"`model.name` is `{name}`; allowed: a name; it becomes part of the path of the workspace."
    )


def test_a_name_with_a_slash_or_dots_is_fine():
    conf = read_conf({"model": {"name": "org/resnet50_v1.5..", "framework": "pytorch"}})
    assert conf.model.name == "org/resnet50_v1.5.."


@pytest.mark.parametrize("key", ["inputs", "outputs"])
def test_the_tensors_of_a_tensorflow_graph_have_no_effect(key):
    _, said = remark({"model": {"name": "net", "framework": "pytorch", key: "image"}})
    assert f"`model.{key}` has no effect, as in LPOT for PyTorch; the {key} are those of" in said
    assert read_conf({"model": {"name": "net", "framework": "pytorch", key: []}})


def test_the_gpu_is_refused():
    assert read_conf(conf_of(device="cpu")).device == "cpu"
    assert refusal(conf_of(device="gpu")) == (
        "`device` is `gpu`, which LPOT had for Intel GPUs; int8 models run on the `cpu`, and "
        "`Trainer(accelerator=...)` says where training runs."
    )


def test_a_section_for_tensorflow_is_refused():
    said = refusal(conf_of(model_conversion={"source": "qat", "destination": "default"}))
    assert said.startswith("`model_conversion` is for TensorFlow only; ")


@pytest.mark.parametrize("precisions", ["bf16", "fp32, bf16", ["bf16", "fp32"]])
def test_mixed_precision_is_the_trainers(precisions):
    asked = {"precisions": precisions, "op_wise": {"conv1": {"activation": {"dtype": ["bf16"]}}}}
    _, said = remark(conf_of(graph_optimization=asked))
    assert "`graph_optimization` has no effect, as in LPOT for PyTorch; mixed precision is" in said
    assert read_conf(conf_of(graph_optimization={})) == read_conf(conf_of())


def test_no_other_precision_is_taken():
    said = refusal(conf_of(device="tpu", graph_optimization={"precisions": "fp16"}))
    assert said.splitlines() == [
        "`device` is `tpu`; allowed: `cpu`. Did you mean `cpu`?",
        "`graph_optimization.precisions` is `fp16`; allowed: `fp32`, `bf16`. Did you mean `bf16`?",
    ]


@pytest.mark.parametrize(
    "approach",
    ["post_training_static_quant", "post_training_dynamic_quant", "quant_aware_training"],
)
def test_the_approaches_that_are_built(approach):
    assert quantized(approach=approach).quantization.approach == approach


@pytest.mark.parametrize("size", [300, "300", [300], " 300 "])
def test_one_sampling_size_is_taken(size):
    conf = quantized(calibration={"sampling_size": size})
    assert conf.quantization.calibration.sampling_size == 300


@pytest.mark.parametrize("sizes", ["1000, 2000", "1000 2000", "1000,2000", [2000, 1000]])
def test_of_several_sampling_sizes_the_largest_is_taken(sizes):
    conf, said = remark(conf_of(quantization={"calibration": {"sampling_size": sizes}}))
    assert conf.quantization.calibration.sampling_size == 2000
    assert said == (
        "<mapping>: `quantization.calibration.sampling_size` lists several sizes, which LPOT tried "
        "one after the other; here calibration happens once, with the largest, `2000`."
    )


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "many", [], "", ["a"], [None], {"a": 1}])
def test_no_other_sampling_size_is_taken(size):
    said = refusal(conf_of(quantization={"calibration": {"sampling_size": size}}))
    assert said.startswith("`quantization.calibration.sampling_size")


def test_calibration_data_must_not_be_shuffled():
    loader = {"dataset": {"CIFAR10": {"root": "/data"}}, "shuffle": True}
    said = refusal(conf_of(quantization={"calibration": {"dataloader": loader}}))
    assert said == (
        "`quantization.calibration` has a dataloader with `shuffle: true`, and what is "
        "calibrated depends on the order of the data; leave `shuffle` out."
    )


@pytest.mark.parametrize("recipe", CORRECTIONS)
def test_a_correction_is_asked_for_forbidden_or_not_spoken_of(recipe):
    for given in (True, False, None):
        conf = quantized(recipes={recipe: given})
        assert getattr(conf.quantization.recipes, recipe) is given
        assert read_conf(conf.to_dict()) == conf


@pytest.mark.parametrize("kind", ["auto", "fp32", "bf16"])
def test_the_type_of_what_stays_floats(kind):
    conf = quantized(float=kind)
    assert conf.quantization.float == kind
    assert read_conf(conf.to_dict()) == conf
    assert quantized().quantization.float == "auto"


def test_no_other_type_is_taken_for_what_stays_floats():
    said = refusal(conf_of(quantization={"float": "fp16"}))
    assert said.startswith("`quantization.float` is `fp16`; allowed: `auto`, `fp32`, `bf16`.")


@pytest.mark.parametrize("recipe", ["scale_propagation_max_pooling", "scale_propagation_concat"])
def test_passes_over_tensorflow_graphs_have_no_effect(recipe):
    assert quantized(recipes={recipe: False})
    _, said = remark(conf_of(quantization={"recipes": {recipe: True}}))
    assert said == (
        f"<mapping>: `quantization.recipes.{recipe}` has no effect, as in LPOT for PyTorch; "
        "it is a pass over TensorFlow graphs."
    )


def test_the_first_op_is_kept_in_fp32_by_its_name():
    recipe = "first_conv_or_matmul_quantization"
    assert quantized(recipes={recipe: True})
    said = refusal(conf_of(quantization={"recipes": {recipe: False}}))
    assert said.endswith(
        "keep the first op in fp32 by its name: `op_wise: {conv1: {weight: {dtype: fp32}}}`."
    )


def test_advance_is_refused():
    said = refusal(conf_of(quantization={"advance": {"bias_correction": "weight_empirical"}}))
    assert said.startswith("`quantization.advance` is for TensorFlow only; ")


def test_wishes_are_lists_or_texts_with_commas_or_blanks():
    wish = quantized(
        model_wise={
            "weight": {"granularity": "per_channel, per_tensor", "scheme": ["sym", "asym"]},
            "activation": {"dtype": "uint8 fp32", "algorithm": "kl,minmax"},
        }
    ).quantization.model_wise
    assert wish.weight.granularity == ("per_channel", "per_tensor")
    assert wish.weight.scheme == ("sym", "asym")
    assert wish.weight.dtype is None
    assert wish.activation.dtype == ("uint8", "fp32")
    assert wish.activation.algorithm == ("kl", "minmax")


def test_the_range_without_its_tails_can_be_asked_for():
    wish = quantized(model_wise={"activation": {"algorithm": "percentile"}}).quantization.model_wise
    assert wish.activation.algorithm == ("percentile",)


def test_op_wise_keeps_order_and_patterns_and_takes_bare_texts():
    names = ["z.conv", "a.*", "net.blocks.2#add_0", "_private", "0"]
    conf = quantized(op_wise={name: {"weight": {"dtype": "fp32"}} for name in names})
    assert [name for name, _ in conf.quantization.op_wise] == names
    assert {wish.weight.dtype for _, wish in conf.quantization.op_wise} == {("fp32",)}


def test_the_default_is_no_op():
    conf = quantized(op_wise={"default_qconfig": {"weight": {"dtype": ["fp32"]}}})
    assert conf.quantization.op_wise == ()
    assert conf.quantization.default_qconfig.weight.dtype == ("fp32",)


def test_embeddings_have_schemes_of_their_own():
    wish = {"weight": {"scheme": ["asym_float", "placeholder"]}}
    assert read_conf(op(wish)).quantization.op_wise[0][1].weight.scheme == (
        "asym_float",
        "placeholder",
    )
    assert refusal(conf_of(quantization={"model_wise": wish})) == (
        "`quantization.model_wise.weight.scheme` is `asym_float`; allowed: `asym`, `sym`."
    )


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (
            {"weight": {"algorithm": "percentile"}},
            "`quantization.op_wise.conv1.weight.algorithm` names `percentile`, "
            "which is for activations; use `minmax`.",
        ),
        (
            {"weight": {"dtype": []}},
            "`quantization.op_wise.conv1.weight.dtype` is an empty list; "
            "allowed: one or more of `int8`, `uint8`, `bf16`, `fp32`.",
        ),
        (
            {"weight": {"dtype": "int4"}},
            "`quantization.op_wise.conv1.weight.dtype` is `int4`; allowed: "
            "`int8`, `uint8`, `bf16`, `fp32`. Did you mean `int8`?",
        ),
        (
            {"weight": {"bit": 4.0}},
            "`quantization.op_wise.conv1.weight.bit` is `4.0`; allowed: `7.0`; "
            "PyTorch's int8 kernels always use the whole int8.",
        ),
        (
            {"activation": {"bit": 7.0}},
            "`quantization.op_wise.conv1.activation.bit` is not a known "
            "key; allowed in `quantization.op_wise.conv1.activation`: `dtype`, `scheme`, "
            "`granularity`, `algorithm`, `quant_mode`.",
        ),
        ({}, "`quantization.op_wise.conv1` asks for nothing; allowed: `weight` and `activation`."),
        (
            None,
            "`quantization.op_wise.conv1` asks for nothing; allowed: `weight` and `activation`.",
        ),
        ("fp32", "`quantization.op_wise.conv1` is `fp32`; allowed: a mapping."),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(wish, said):
    assert refusal(op(wish)) == said


@pytest.mark.parametrize(
    ("wish", "side", "kept", "said"),
    [
        ({"weight": {"algorithm": ["kl"]}}, "weight", None, "`kl`, which is for activations"),
        ({"weight": {"algorithm": "minmax, kl"}}, "weight", ("minmax",), "`kl`, which is for"),
        (
            {"weight": {"algorithm": ["placeholder"], "scheme": ["asym_float"]}},
            "weight",
            None,
            "`placeholder`, which finds no range",
        ),
        (
            {"activation": {"algorithm": ["placeholder"], "scheme": ["placeholder"]}},
            "activation",
            None,
            "`placeholder`, which finds no range",
        ),
    ],
)
def test_an_algorithm_that_finds_no_range_there_has_no_effect(wish, side, kept, said):
    conf, remarked = remark(op(wish))
    assert getattr(conf.quantization.op_wise[0][1], side).algorithm == kept
    assert f"`quantization.op_wise.conv1.{side}.algorithm` names {said}" in remarked


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"weight": {"scheme": "asym"}}, "asks for `asym` weights"),
        ({"activation": {"dtype": "int8, fp32"}}, "asks for `int8` activations"),
    ],
)
def test_what_lpots_templates_ask_of_all_ops_and_none_can_be_has_no_effect(asked, said):
    conf, remarked = remark(conf_of(quantization={"model_wise": asked}))
    assert conf.quantization == read_conf(conf_of()).quantization
    assert f"`quantization.model_wise` {said}, which have no effect; " in remarked


@pytest.mark.parametrize("bit", [7.0, 7, [7.0], None])
def test_seven_bits_are_the_whole_int8(bit):
    assert read_conf(op({"weight": {"bit": bit, "dtype": "int8"}}))


def test_what_a_rung_is_asked_for_by():
    asked = {
        "activation": {"dtype": "fp32", "quant_mode": "static, dynamic"},
        "weight": {"dtype": "int8", "granularity": "per_group", "group_size": [64, 32]},
    }
    _, wish = read_conf(op(asked)).quantization.op_wise[0]
    assert wish.activation.quant_mode == recipe.QUANT_MODES
    assert wish.weight.granularity == ("per_group",)
    assert wish.weight.group_size == (64, 32)


def test_the_sizes_of_groups_are_those_of_recipes():
    said = refusal(op({"weight": {"group_size": 48}}))
    assert "`quantization.op_wise.conv1.weight.group_size` is `48`; allowed: `32`, `64`," in said
    _, wish = read_conf(op({"weight": {"group_size": "64, 32"}})).quantization.op_wise[0]
    assert wish.weight.group_size == (64, 32)


def test_groups_of_another_granularity_are_refused():
    said = refusal(op({"weight": {"granularity": "per_channel", "group_size": 32}}))
    assert said == (
        "`quantization.op_wise.conv1.weight.group_size` is given beside `granularity: per_channel`,"
        " which has no groups; write `per_group` there, or leave one of the two out."
    )


@pytest.mark.parametrize(
    ("side", "field", "value"),
    [("weight", "quant_mode", "dynamic"), ("activation", "group_size", 32)],
)
def test_a_field_of_the_other_side_is_refused(side, field, value):
    assert f"`quantization.op_wise.conv1.{side}.{field}` is of a" in refusal(
        op({side: {field: value}})
    )


def test_an_invalid_pattern_is_refused_with_its_line(write):
    name = write(
        "model: {name: net, framework: pytorch}\nquantization:\n  op_wise:\n"
        "    '*.conv':\n      weight: {dtype: [fp32]}\n"
    )
    assert refusal(name) == (
        "ptq.yaml:4: `quantization.op_wise.*.conv` is no valid name and no valid regular "
        "expression: nothing to repeat at position 0."
    )


@pytest.mark.parametrize("pattern", ["(" * 3000, "a{99999999999999999999}", "[", " ", "a\nb"])
def test_a_hostile_pattern_is_refused(pattern):
    wish = {"weight": {"dtype": "fp32"}}
    said = refusal(conf_of(quantization={"op_wise": {pattern: wish}}))
    assert said.startswith("`quantization.op_wise.")
