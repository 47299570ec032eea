"""The `quantization` section."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from lpot_lightning.conf.blocks import COUNT, PrecisionWish, TensorConf
from lpot_lightning.conf.cursor import Field, ReadField, read_all, read_into
from lpot_lightning.conf.dataloader import read_dataloader
from lpot_lightning.conf.schema import CalibrationConf, QuantizationConf, RecipesConf
from lpot_lightning.conf.train import read_train
from lpot_lightning.errors import quoted
from lpot_lightning.recipe import DTYPES, GROUP_SIZES, PLACEHOLDER, QUANT_MODES

DYNAMIC = "post_training_dynamic_quant"
APPROACHES = ("post_training_static_quant", DYNAMIC, "quant_aware_training")
WEIGHT_GRANULARITIES = ("per_channel", "per_group", "per_tensor")
ACTIVATION_GRANULARITIES = ("per_channel", "per_tensor", "per_token")
SCHEMES = ("asym", "sym")
EMBEDDING_SCHEMES = (*SCHEMES, "asym_float", PLACEHOLDER)  # the last one is of ids
ACTIVATION_ALGORITHMS = ("minmax", "kl", "percentile")  # the last one is not LPOT's
_OF_ACTIVATIONS = "is of an activation, whose range it is about: write it there."
_OF_WEIGHTS = "is of a weight: write it there."
DEFAULT = "default_qconfig"
REFUSED = {
    "advance": "is for TensorFlow only; LPOT's repairs for PyTorch are in `quantization.recipes`: "
    "leave it out.",
}
RECIPES_IDLE = {
    name: "has no effect, as in LPOT for PyTorch; it is a pass over TensorFlow graphs"
    for name in ("scale_propagation_max_pooling", "scale_propagation_concat")
}


def read_quantization(field: Field) -> QuantizationConf:
    """Read ``quantization``; everything in it has a default."""
    part = field.section(QuantizationConf, refused=REFUSED)
    found = read_into(
        QuantizationConf,
        part,
        approach=lambda approach: approach.text("", APPROACHES),
        calibration=_calibration,
        recipes=_recipes,
        model_wise=_model_wise,
        op_wise=_op_wise,
        train=read_train,
    )
    ops = dict(found.op_wise)
    default = ops.pop(DEFAULT, None)
    return replace(found, op_wise=tuple(ops.items()), default_qconfig=default)


def _calibration(field: Field) -> CalibrationConf:
    part = field.section(CalibrationConf)
    found = read_into(
        CalibrationConf, part, sampling_size=_sampling_size, dataloader=read_dataloader
    )
    if found.dataloader is not None and found.dataloader.shuffle:
        raise field.error(
            "has a dataloader with `shuffle: true`, and what is calibrated depends "
            "on the order of the data; leave `shuffle` out."
        )
    return replace(found, is_asked=part["sampling_size"].given)


def _sampling_size(field: Field) -> int:
    sizes = _sizes(field)
    if len(sizes) > 1:
        field.note(
            "lists several sizes, which LPOT tried one after the other; here calibration happens"
            f" once, with the largest, `{max(sizes)}`"
        )
    return max(sizes)


def _sizes(field: Field) -> list[int]:
    if isinstance(field.value, list) and field.value:
        return [item.required().integer(0, COUNT) for item in field.items()]
    if isinstance(field.value, str):
        return [_size(field, word) for word in field.words(())]
    return [field.integer(0, COUNT)]


def _size(field: Field, word: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,17}", word, re.ASCII):
        raise field.wrong(f"a whole number in {COUNT}")
    return int(word)


def _recipes(field: Field) -> RecipesConf:
    first = "first_conv_or_matmul_quantization"
    part = field.section(RecipesConf, first, idle=RECIPES_IDLE)
    readers: dict[str, ReadField] = {
        "first": lambda _: _check_first(part[first]),
        "others": lambda _: read_into(RecipesConf, part),
    }
    found: RecipesConf = read_all(
        dict.fromkeys(readers, field), lambda name, one: readers[name](one)
    )["others"]
    return found


def _check_first(field: Field) -> None:
    if not field.flag(True):
        field.fault(
            "is for TensorFlow only; keep the first op in fp32 by its name: "
            "`op_wise: {conv1: {weight: {dtype: fp32}}}`."
        )


def _op_wise(field: Field) -> tuple[tuple[str, PrecisionWish], ...]:
    return tuple(read_all(field.entries(), lambda _, op: _op(op)).items())


def _op(field: Field) -> PrecisionWish:
    name = str(field.keys[-1])
    try:
        re.compile(name)
    except (re.error, RecursionError, OverflowError) as error:
        raise field.error(f"is no valid name and no valid regular expression: {error}.") from error
    if not name.strip() or not name.isprintable():
        raise field.error("is no name of an op.")
    if not field.value:
        raise field.error("asks for nothing; allowed: `weight` and `activation`.")
    return _wish(field, EMBEDDING_SCHEMES)


def _model_wise(field: Field) -> PrecisionWish:
    wish = _wish(field, SCHEMES)
    weight, activation = wish.weight, wish.activation
    if weight.scheme == ("asym",):
        field.note("asks for `asym` weights, which have no effect; int8 weights are symmetric")
        weight = replace(weight, scheme=None)
    if "int8" in (activation.dtype or ()) and "uint8" not in (activation.dtype or ()):
        field.note("asks for `int8` activations, which have no effect; those of ops are `uint8`")
        activation = replace(activation, dtype=None)
    return PrecisionWish(weight, activation)


def _wish(field: Field, schemes: tuple[str, ...]) -> PrecisionWish:
    return read_into(
        PrecisionWish,
        field,
        weight=lambda weight: _weight(weight, schemes),
        activation=lambda activation: _activation(activation, schemes),
    )


def _weight(field: Field, schemes: tuple[str, ...]) -> TensorConf:
    part = field.section(TensorConf, "bit", refused={"quant_mode": _OF_ACTIVATIONS})
    idle = {"kl": "is for activations"}
    readers: dict[str, ReadField] = {
        "bit": lambda _: _check_bit(part["bit"]),
        "others": lambda _: _tensor(part, schemes, ("minmax", "kl"), WEIGHT_GRANULARITIES, idle),
    }
    found: TensorConf = read_all(
        dict.fromkeys(readers, field), lambda name, one: readers[name](one)
    )["others"]
    if found.group_size and found.granularity and "per_group" not in found.granularity:
        raise part["group_size"].error(
            f"is given beside `granularity: {', '.join(found.granularity)}`, which has no groups;"
            " write `per_group` there, or leave one of the two out."
        )
    return found


def _activation(field: Field, schemes: tuple[str, ...]) -> TensorConf:
    part = field.section(TensorConf, refused={"group_size": _OF_WEIGHTS})
    return _tensor(part, schemes, ACTIVATION_ALGORITHMS, ACTIVATION_GRANULARITIES)


def _tensor(
    part: dict[str, Field],
    schemes: tuple[str, ...],
    algorithms: tuple[str, ...],
    granularities: tuple[str, ...],
    idle: Mapping[str, str] | None = None,
) -> TensorConf:
    return read_into(
        TensorConf,
        part,
        dtype=lambda dtype: dtype.words(None, DTYPES),
        scheme=lambda scheme: scheme.words(None, schemes),
        granularity=lambda granularity: granularity.words(None, granularities),
        quant_mode=lambda quant_mode: quant_mode.words(None, QUANT_MODES),
        group_size=_group_size,
        algorithm=lambda algorithm: _algorithm(algorithm, algorithms, idle or {}),
    )


def _algorithm(
    field: Field, allowed: tuple[str, ...], idle: Mapping[str, str]
) -> tuple[str, ...] | None:
    """Read algorithms; those of LPOT that find no range here leave the choice to the others."""
    if field.mentions("percentile") and "percentile" not in allowed:
        raise field.error("names `percentile`, which is for activations; use `minmax`.")
    if field.mentions(PLACEHOLDER):
        allowed, idle = (*allowed, PLACEHOLDER), {**idle, PLACEHOLDER: "finds no range"}
    named = field.words(None, allowed)
    for name in (name for name in named or () if name in idle):
        field.note(f"names `{name}`, which {idle[name]} and has no effect")
    return tuple(name for name in named or () if name not in idle) or None


def _group_size(field: Field) -> tuple[int, ...] | None:
    """Read one size or several, as numbers or as text."""
    if not field.given:
        return None
    if isinstance(field.value, str):
        return tuple(map(int, field.words((), tuple(map(str, GROUP_SIZES)))))
    sizes = field.value if isinstance(field.value, list) else [field.value]
    if not sizes or any(type(one) is not int or one not in GROUP_SIZES for one in sizes):
        raise field.wrong(quoted(GROUP_SIZES))
    return tuple(sizes)


def _check_bit(field: Field) -> None:
    bits = field.value if isinstance(field.value, list) else [field.number(7.0)]
    if not bits or any(bit != 7.0 for bit in bits):
        raise field.wrong("`7.0`; PyTorch's int8 kernels always use the whole int8")
