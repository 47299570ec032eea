"""Wishes met with capability."""

from dataclasses import dataclass, field, replace

import pytest
from made_up import FOUR, INT8, int8, linear

from lpot_lightning.errors import ConfError
from lpot_lightning.recipe import FP32, Op, OpConfig, Rung, TensorConfig
from lpot_lightning.tuning.space import build_space


@dataclass(frozen=True)
class Tensor:
    dtype: tuple[str, ...] | None = None
    scheme: tuple[str, ...] | None = None
    granularity: tuple[str, ...] | None = None
    algorithm: tuple[str, ...] | None = None
    quant_mode: tuple[str, ...] | None = None
    group_size: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Asked:
    weight: Tensor = field(default_factory=Tensor)
    activation: Tensor = field(default_factory=Tensor)


def activation(**asked):
    return Asked(activation=Tensor(**asked))


def weight(**asked):
    return Asked(weight=Tensor(**asked))


def conv(name):
    return Op(name=name, kind="Conv2d", configs=(*FOUR, FP32))


def embedding(name):
    return Op(name=name, kind="Embedding", configs=(int8(weight="per_tensor"), FP32))


def add(name):
    return Op(name=name, kind="add", configs=(int8(weight=None), FP32))


def configs_of(space, name):
    return next(op.configs for op in space.ops if op.name == name)


def test_without_wishes_the_capability_stays():
    space = build_space([conv("a"), linear("b", [INT8])], None, [])
    assert space.all_int8().as_mapping() == {"a": FOUR[0], "b": INT8}
    assert space.fallback_candidates == ("a",)
    assert space.kinds == ("Conv2d", "Linear")
    assert space.notes == ()


def test_fp32_comes_last_and_is_no_candidate_where_it_is_all():
    space = build_space([linear("a", [FP32, INT8]), linear("b", [FP32])], None, [])
    assert configs_of(space, "a") == (INT8, FP32)
    assert space.all_int8().int8_ops == ("a",)
    assert space.fallback_candidates == ("a",)


def test_the_order_of_the_user_is_the_order_of_preference():
    asked = activation(scheme=("sym", "asym"), algorithm=("minmax", "kl"))
    space = build_space([conv("a")], asked, [])
    found = [(c.activation.scheme, c.activation.algorithm) for c in space.ops[0].int8_configs]
    assert found == [("sym", "minmax"), ("sym", "kl"), ("asym", "minmax"), ("asym", "kl")]


def test_op_wise_comes_after_model_wise_and_in_the_order_of_the_file():
    space = build_space(
        [conv("a"), conv("b")],
        activation(scheme=("sym", "asym")),
        [(".*", activation(algorithm=("minmax", "kl"))), ("a", activation(algorithm=("kl",)))],
    )
    assert space.all_int8().as_mapping() == {
        "a": int8("sym", "kl"),
        "b": int8("sym", "minmax"),
    }


def test_what_is_left_of_model_wise_is_what_op_wise_can_have():
    with pytest.raises(ConfError, match="with what is asked before, it can be `sym`"):
        build_space(
            [conv("a")],
            activation(scheme=("sym",)),
            [("a", activation(scheme=("asym",)))],
        )


def test_an_empty_intersection_names_op_key_wish_and_capability():
    asked = [("net.e", weight(granularity=("per_channel",)))]
    with pytest.raises(ConfError) as error:
        build_space([embedding("net.e"), conv("net.a")], None, asked)
    assert str(error.value) == (
        "`quantization.op_wise.net.e.weight.granularity` asks `net.e` for `per_channel`; with what "
        "is asked before, it can be `per_tensor`: choose among these or leave the line out"
    )


def test_a_kind_that_cannot_meet_model_wise_keeps_what_it_can_and_it_is_said():
    space = build_space(
        [conv("a"), embedding("e"), embedding("f"), add("p")],
        Asked(weight=Tensor(granularity=("per_channel",)), activation=Tensor(algorithm=("kl",))),
        [],
    )
    assert configs_of(space, "e") == embedding("e").configs
    assert space.notes == (
        "`Embedding` keeps weight granularity `per_tensor`: "
        "`quantization.model_wise.weight.granularity` asks for `per_channel`, which it cannot be",
    )


def test_model_wise_that_no_op_can_meet_is_an_error():
    with pytest.raises(ConfError, match="`per_channel`, which no op of this model can be"):
        build_space([embedding("e"), add("p")], weight(granularity=("per_channel",)), [])


def test_what_one_line_of_model_wise_cannot_the_others_still_can():
    ops = [
        conv("a"),
        Op(
            name="e",
            kind="Embedding",
            configs=(*(int8(s, "kl", "per_tensor") for s in SCHEMES), FP32),
        ),
    ]
    asked = Asked(weight=Tensor(granularity=("per_channel",)), activation=Tensor(scheme=("sym",)))
    space = build_space(ops, asked, [])
    assert configs_of(space, "e") == (int8("sym", "kl", "per_tensor"), FP32)


SCHEMES = ("asym", "sym")


@pytest.mark.parametrize("asked", [weight(dtype=("fp32",)), activation(dtype=("fp32",))])
def test_fp32_on_one_side_means_fp32_on_both(asked):
    space = build_space([conv("a"), conv("b")], None, [("a", asked)])
    assert configs_of(space, "a") == (FP32,)
    assert space.fallback_candidates == ("b",)


def test_an_op_that_cannot_be_fp32_says_so():
    with pytest.raises(ConfError, match="asks `a` for `fp32`.*it can be `uint8`:"):
        build_space([linear("a", [INT8])], None, [("a", activation(dtype=("fp32",)))])


def test_an_expression_leaves_ops_alone_that_can_be_fp32_only():
    ops = [conv("a"), replace(embedding("places"), configs=(FP32,))]
    space = build_space(ops, None, [(".*", activation(dtype=("uint8",)))])
    assert configs_of(space, "a") == FOUR
    assert configs_of(space, "places") == (FP32,)
    (note,) = space.notes
    assert note == "`quantization.op_wise..*` has no effect on `places`, which can be fp32 only"
    with pytest.raises(ConfError, match="asks `places` for `uint8`"):
        build_space(ops, None, [("places", activation(dtype=("uint8",)))])


def test_a_dtype_without_fp32_forbids_one_op_to_fall_back():
    space = build_space([conv("a"), conv("b")], None, [("a", activation(dtype=("uint8",)))])
    assert configs_of(space, "a") == FOUR
    assert space.fallback_candidates == ("b",)


def test_a_dtype_with_fp32_lets_it_fall_back():
    asked = [("a", activation(dtype=("uint8", "fp32")))]
    assert build_space([conv("a")], None, asked).fallback_candidates == ("a",)


def test_a_dtype_of_model_wise_does_not_forbid_fallback():
    asked = Asked(weight=Tensor(dtype=("int8",)), activation=Tensor(dtype=("uint8",)))
    assert build_space([conv("a")], asked, []).fallback_candidates == ("a",)


def test_model_wise_fp32_leaves_nothing_to_do():
    space = build_space([conv("a"), add("p")], activation(dtype=("fp32",)), [])
    assert space.all_int8().fp32_ops == ("a", "p")


def test_fp32_beside_int8_cannot_be():
    asked = Asked(weight=Tensor(dtype=("fp32",)), activation=Tensor(dtype=("uint8",)))
    with pytest.raises(ConfError, match="an op whose weight is fp32 is so on both sides"):
        build_space([conv("a")], None, [("a", asked)])


def test_a_wish_for_a_weight_needs_one():
    with pytest.raises(ConfError, match="speaks of a weight, and `p` has none"):
        build_space([add("p")], None, [("p", weight(scheme=("sym",)))])


def test_an_expression_has_to_fit_the_whole_name():
    asked = [("conv1[0]?", activation(dtype=("fp32",)))]
    space = build_space([conv("conv1"), conv("conv10"), conv("conv1_extra")], None, asked)
    assert space.all_int8().fp32_ops == ("conv1", "conv10")


def test_a_name_is_a_name_even_if_it_could_be_an_expression():
    ops = [conv("_net.a"), conv("_netxa"), conv("net.b#add_0")]
    asked = [(name, activation(dtype=("fp32",))) for name in ("_net.a", "net.b#add_0")]
    assert build_space(ops, None, asked).all_int8().fp32_ops == ("_net.a", "net.b#add_0")


def test_a_key_that_matches_no_op_names_the_nearest():
    asked = [("net.cnov1", activation(dtype=("fp32",)))]
    with pytest.raises(ConfError) as error:
        build_space([conv("net.conv1"), conv("net.fc")], None, asked)
    assert str(error.value) == (
        "`quantization.op_wise.net.cnov1` matches no op. Did you mean `net.conv1`? "
        "The ops are: `net.conv1`, `net.fc`"
    )


def test_of_many_ops_a_few_are_named():
    ops = [conv(f"c{number}") for number in range(30)]
    with pytest.raises(ConfError, match=r"`c7`, … \(30 in all\)"):
        build_space(ops, None, [("d.*", Asked())])


def test_a_key_that_is_no_expression_says_so():
    with pytest.raises(ConfError, match="neither the name of an op nor a regular expression"):
        build_space([conv("a")], None, [("a(", Asked())])


def test_default_qconfig_fp32_leaves_what_is_not_listed_in_fp32():
    space = build_space(
        [conv("a"), conv("b"), linear("stub", [INT8])],
        None,
        [("a", activation(scheme=("sym",)))],
        default=activation(dtype=("fp32", "uint8")),
    )
    assert space.all_int8().int8_ops == ("a", "stub")
    assert space.fallback_candidates == ("a",)
    assert "`Linear` keeps activation dtype `uint8`" in space.notes[0]


def test_default_qconfig_int8_does_not_forbid_fallback():
    space = build_space([conv("a")], None, [], default=activation(dtype=("uint8",)))
    assert space.fallback_candidates == ("a",)


def test_the_choices_of_a_kind_are_those_of_all_its_ops():
    space = build_space([linear("a", FOUR[:2]), linear("b", FOUR[1:3])], None, [])
    assert space.int8_configs_of("Linear") == FOUR[:3]


def test_an_op_that_can_be_nothing_is_refused():
    with pytest.raises(ConfError, match="`a` can be nothing at all"):
        build_space([linear("a", [])], None, [])


def test_a_correction_that_is_asked_for_is_on_every_op_that_can_have_it():
    can = replace(conv("a"), corrections=("fast_bias_correction", "weight_correction"))
    space = build_space([can, conv("b")], None, [], corrections=["fast_bias_correction"])
    expected = tuple(replace(one, corrections=("fast_bias_correction",)) for one in FOUR)
    assert configs_of(space, "a") == (*expected, FP32)
    assert configs_of(space, "b") == (*FOUR, FP32)
    assert space.int8_configs_of("Conv2d") == FOUR


KEPT = OpConfig(TensorConfig(dtype="fp32"), INT8.weight)
ROWS = OpConfig(replace(INT8.activation, quant_mode="dynamic"), INT8.weight)
WEIGHT_ONLY = Asked(weight=Tensor(dtype=("int8",)), activation=Tensor(dtype=("fp32",)))


def laddered(name):
    return linear(name, [INT8, ROWS, KEPT, FP32])


def test_a_weight_that_may_be_fp32_leaves_a_weight_only_op_the_way_down():
    asked = replace(WEIGHT_ONLY, weight=Tensor(dtype=("int8", "fp32")))
    space = build_space([laddered("a"), laddered("b")], None, [("a", asked), ("b", WEIGHT_ONLY)])
    assert configs_of(space, "a") == (KEPT, FP32)
    assert configs_of(space, "b") == (KEPT,)


def test_weights_that_are_kept_are_of_the_dtype_that_is_asked_for():
    asked = replace(WEIGHT_ONLY, weight=Tensor(dtype=("uint8",)))
    with pytest.raises(ConfError, match="weight.dtype` asks `a` for `uint8`.*can be `int8`"):
        build_space([laddered("a")], None, [("a", asked)])


@pytest.mark.parametrize(
    ("asked", "first"), [(activation(quant_mode=("dynamic",)), ROWS), (WEIGHT_ONLY, KEPT)]
)
def test_default_qconfig_says_the_rung_of_what_is_not_listed(asked, first):
    listed = [("a", activation(scheme=("asym",)))]
    ops, usual = [laddered("a"), laddered("b")], [Rung.STATIC, Rung.FP32]
    space = build_space(ops, None, listed, default=asked, rungs=usual)
    assert space.all_int8().as_mapping() == {"a": INT8, "b": first}
    assert space.fallback_candidates == ("a", "b")


def test_an_op_that_cannot_be_dynamic_says_what_it_can_be_in_words_of_a_yaml():
    asked = [("a", activation(quant_mode=("dynamic",)))]
    with pytest.raises(ConfError, match="for `dynamic`; .* it can be `static`: choose"):
        build_space([linear("a", [INT8, KEPT, FP32])], None, asked)
    with pytest.raises(ConfError, match="it can be `weight-only int8`, `fp32`: choose"):
        build_space([linear("a", [KEPT, FP32])], None, asked)
