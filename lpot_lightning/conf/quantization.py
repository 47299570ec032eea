"""The `quantization` section."""

from __future__ import annotations

import re
from dataclasses import fields

from lpot_lightning.conf.blocks import PrecisionWish, TensorConf
from lpot_lightning.conf.cursor import COUNT, Field
from lpot_lightning.conf.dataloader import read_dataloader
from lpot_lightning.conf.schema import CalibrationConf, QuantizationConf, RecipesConf
from lpot_lightning.conf.train import read_train

APPROACHES = ("post_training_static_quant", "quant_aware_training")
DYNAMIC = "post_training_dynamic_quant"
GRANULARITIES = ("per_channel", "per_tensor")
DTYPES = ("int8", "uint8", "fp32")
SCHEMES = ("asym", "sym")
EMBEDDING_SCHEMES = (*SCHEMES, "asym_float", "placeholder")
ACTIVATION_ALGORITHMS = ("minmax", "kl", "percentile")  # the last one is not LPOT's
DEFAULT = "default_qconfig"
REFUSED = {
    "advance": "is for TensorFlow only; LPOT's repairs for PyTorch are in `quantization.recipes`: "
    "leave it out.",
}
RECIPES = tuple(recipe.name for recipe in fields(RecipesConf))
RECIPES_REFUSED = {
    name: "is a pass over TensorFlow graphs; PyTorch has no such pass: leave it out."
    for name in ("scale_propagation_max_pooling", "scale_propagation_concat")
}


def read_quantization(field: Field) -> QuantizationConf:
    """Read ``quantization``; everything in it has a default."""
    part = field.section(
        "approach", "calibration", "recipes", "model_wise", "op_wise", "train", refused=REFUSED
    )
    ops = {name: _op(op) for name, op in part["op_wise"].entries().items()}
    default = ops.pop(DEFAULT, None)
    return QuantizationConf(
        approach=_approach(part["approach"]),
        calibration=_calibration(part["calibration"]),
        recipes=_recipes(part["recipes"]),
        model_wise=_wish(part["model_wise"], SCHEMES),
        op_wise=tuple(ops.items()),
        default_qconfig=default,
        train=read_train(part["train"]),
    )


def _approach(field: Field) -> str:
    if field.value == DYNAMIC:
        raise field.not_yet(
            f"is `{DYNAMIC}`, and dynamic quantization is not built yet; "
            "use `post_training_static_quant`."
        )
    return field.text(APPROACHES[0], APPROACHES)


def _calibration(field: Field) -> CalibrationConf:
    part = field.section("sampling_size", "dataloader")
    dataloader = read_dataloader(part["dataloader"])
    if dataloader is not None and dataloader.shuffle:
        raise field.error(
            "has a dataloader with `shuffle: true`, and what is calibrated depends "
            "on the order of the data; leave `shuffle` out."
        )
    return CalibrationConf(_sampling_size(part["sampling_size"]), dataloader)


def _sampling_size(field: Field) -> int:
    sizes = _sizes(field)
    if len(sizes) > 1:
        raise field.not_yet(
            "lists several sizes, and trying them in turn is not built yet; "
            f"calibration happens once: use `{max(sizes)}`."
        )
    return sizes[0]


def _sizes(field: Field) -> list[int]:
    if isinstance(field.value, list) and field.value:
        return [item.required().integer(100, COUNT) for item in field.items()]
    if isinstance(field.value, str):
        return [_size(field, word) for word in field.words(())]
    return [field.integer(100, COUNT)]


def _size(field: Field, word: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,17}", word, re.ASCII):
        raise field.wrong(f"a whole number in {COUNT}")
    return int(word)


def _recipes(field: Field) -> RecipesConf:
    first = "first_conv_or_matmul_quantization"
    part = field.section(*RECIPES, first, refused=RECIPES_REFUSED)
    if not part[first].flag(True):
        raise part[first].error(
            "is for TensorFlow only; keep the first op in fp32 by its name: "
            "`op_wise: {conv1: {weight: {dtype: fp32}}}`."
        )
    return RecipesConf(**{name: part[name].flag(None) for name in RECIPES})


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


def _wish(field: Field, weight_schemes: tuple[str, ...]) -> PrecisionWish:
    part = field.section("weight", "activation")
    return PrecisionWish(_weight(part["weight"], weight_schemes), _activation(part["activation"]))


def _weight(field: Field, schemes: tuple[str, ...]) -> TensorConf:
    part = field.section("dtype", "scheme", "granularity", "algorithm", "bit")
    _check_bit(part["bit"])
    for name in ("kl", "percentile"):
        if part["algorithm"].mentions(name):
            raise part["algorithm"].error(
                f"names `{name}`, which is for activations; use `minmax`."
            )
    return _tensor(part, schemes, ("minmax",))


def _activation(field: Field) -> TensorConf:
    part = field.section("dtype", "scheme", "granularity", "algorithm")
    return _tensor(part, SCHEMES, ACTIVATION_ALGORITHMS)


def _tensor(
    part: dict[str, Field], schemes: tuple[str, ...], algorithms: tuple[str, ...]
) -> TensorConf:
    return TensorConf(
        dtype=_dtype(part["dtype"]),
        scheme=part["scheme"].words(None, schemes),
        granularity=part["granularity"].words(None, GRANULARITIES),
        algorithm=part["algorithm"].words(None, algorithms),
    )


def _dtype(field: Field) -> tuple[str, ...] | None:
    if field.mentions("bf16"):
        raise field.not_yet("names `bf16`, which is not built yet; use `fp32`.")
    return field.words(None, DTYPES)


def _check_bit(field: Field) -> None:
    bits = field.value if isinstance(field.value, list) else [field.number(7.0)]
    if not bits or any(bit != 7.0 for bit in bits):
        raise field.wrong("`7.0`; PyTorch's int8 kernels always use the whole int8")
