"""Which op gets which precision: frozen, to and from plain dict."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from lpot_lightning.errors import ConfError, quoted

DTYPES = ("int8", "uint8", "bf16", "fp32")
PLACEHOLDER = "placeholder"
SCHEMES = ("sym", "asym", "asym_float", PLACEHOLDER)
GRANULARITIES = ("per_tensor", "per_channel", "per_group", "per_token")
QUANT_MODES = STATIC, DYNAMIC = ("static", "dynamic")
GROUP_SIZES = (32, 64, 128)
TRAINED = "trained"
ALGORITHMS = ("minmax", "kl", "percentile", TRAINED)
CORRECTIONS = ("cross_layer_equalization", "weight_correction", "fast_bias_correction")
"""What may be done to an op's fp32 weights before they are rounded, in the order of doing."""


class Rung(Enum):
    """What an op computes in: the ladder that a search goes down, op by op."""

    STATIC = "int8"
    """Weights and activations are int8, with ranges that a calibration or a training found."""
    DYNAMIC = "dynamic int8"
    """Weights and activations are int8; each row of an activation has a range of its own, found
    when it comes."""
    WEIGHT_ONLY = "weight-only int8"
    """Weights are kept as int8; they are made floats to compute with."""
    BF16 = "bf16"
    """Weights and activations are bfloat16."""
    FP32 = "fp32"
    """What it was."""

    @property
    def is_int8(self) -> bool:
        """Whether weights are int8."""
        return self.bits == 8

    @property
    def bits(self) -> int:
        """Of a weight."""
        return 16 if self is Rung.BF16 else 32 if self is Rung.FP32 else 8


@dataclass(frozen=True, kw_only=True)
class TensorConfig:
    """How one tensor of an op, its activation or its weight, is held.

    Args:
        dtype: ``"int8"``, ``"uint8"``, ``"bf16"`` or ``"fp32"``; with the last two the other fields
            are ``None``.
        scheme: ``"sym"``, ``"asym"``, ``"asym_float"`` or ``"placeholder"``.
        granularity: what has a scale of its own: ``"per_tensor"`` all of it, ``"per_channel"`` each
            output of a weight, ``"per_group"`` each ``group_size`` inputs of each of them,
            ``"per_token"`` each row of an activation.
        algorithm: how the range is found: LPOT's ``"minmax"`` or ``"kl"``, ``"percentile"``, or
            ``"trained"`` for one that was learned in a training for int8.
        quant_mode: of an activation: ``"dynamic"`` finds its range when it comes; ``None`` is
            LPOT's ``"static"``.
        group_size: of ``"per_group"``, of ``GROUP_SIZES``.

    Raises:
        ConfError: if a field holds something else.
    """

    dtype: str
    scheme: str | None = None
    granularity: str | None = None
    algorithm: str | None = None
    quant_mode: str | None = None
    group_size: int | None = None

    def __post_init__(self) -> None:
        _check("dtype", self.dtype, DTYPES)
        for name, allowed in _ALLOWED.items():
            value = getattr(self, name)
            if value is not None:
                _check(name, value, allowed)
        if (self.granularity == "per_group") != (self.group_size is not None):
            raise ConfError(
                f"`granularity` is `{self.granularity}` and `group_size` is `{self.group_size}`;"
                " allowed: both `per_group` and a size, or none of them"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are given."""
        return {key: value for key, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class OpConfig:
    """How one op computes: its activation, and its weight where it has one.

    Args:
        activation: what the op gives on.
        weight: ``None`` for an op without one.
        corrections: what is done to its weights before they are rounded, of ``CORRECTIONS``.

    Raises:
        ConfError: if a correction is not known.
    """

    activation: TensorConfig
    weight: TensorConfig | None = None
    corrections: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for one in self.corrections:
            _check("corrections", one, CORRECTIONS)
        in_order = tuple(one for one in CORRECTIONS if one in self.corrections)
        object.__setattr__(self, "corrections", in_order)

    @property
    def rung(self) -> Rung:
        """Which rung of the ladder it is; that of tables, whose input are ids, is weight-only."""
        activation, weight = self.activation, self.weight
        if self.is_table:
            return Rung.WEIGHT_ONLY
        if activation.dtype == "bf16":
            return Rung.BF16
        if activation.dtype == "fp32":
            kept = weight is not None and weight.dtype in ("int8", "uint8")
            return Rung.WEIGHT_ONLY if kept else Rung.FP32
        return Rung.DYNAMIC if activation.quant_mode == DYNAMIC else Rung.STATIC

    @property
    def is_table(self) -> bool:
        """Whether the input are ids."""
        return self.activation.scheme == PLACEHOLDER

    @property
    def is_fp32(self) -> bool:
        """Whether the op stays what it was."""
        return self.rung is Rung.FP32

    @property
    def is_trained(self) -> bool:
        """Whether the op rounds as it was trained."""
        return self.activation.algorithm == TRAINED

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"activation": {…}, "weight": {…}, "corrections": […]}``, without the empty."""
        found: dict[str, Any] = {"activation": self.activation.to_dict()}
        if self.weight is not None:
            found["weight"] = self.weight.to_dict()
        if self.corrections:
            found["corrections"] = list(self.corrections)
        return found

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> OpConfig:
        """Build from what ``to_dict`` gave; unknown keys raise ``ConfError``."""
        unknown = set(plain) - {"activation", "weight", "corrections"}
        if unknown or "activation" not in plain:
            raise ConfError(
                "an op needs `activation` and may have `weight` and `corrections`, got"
                f" {sorted(plain)}"
            )
        weight = plain.get("weight")
        return cls(
            activation=_tensor(plain["activation"]),
            weight=None if weight is None else _tensor(weight),
            corrections=tuple(plain.get("corrections", ())),
        )


@dataclass(frozen=True, kw_only=True)
class Op:
    """A quantizable layer and what it can be: capability, not yet a choice.

    Args:
        name: dotted path in the user's module, or ``owner#linear_0`` for a function.
        kind: the type that ops of the same capability share, such as ``Conv2d`` or ``add``.
        configs: what the op can be, int8 choices first and in order of preference; where the op
            may stay in floating point, ``FP32`` is among them.
        weight_bytes: bytes of its fp32 weight and bias; 0 for an op without parameters.
        corrections: what may be done to its weights, of ``CORRECTIONS``.
    """

    name: str
    kind: str
    configs: tuple[OpConfig, ...]
    weight_bytes: int = 0
    corrections: tuple[str, ...] = ()

    @property
    def reduced_configs(self) -> tuple[OpConfig, ...]:
        """The choices that are not fp32."""
        return tuple(config for config in self.configs if not config.is_fp32)

    @property
    def int8_configs(self) -> tuple[OpConfig, ...]:
        """The choices with int8 weights."""
        return tuple(config for config in self.configs if config.rung.is_int8)

    def settings_of(self, rung: Rung) -> tuple[OpConfig, ...]:
        """Return the choices on one rung."""
        return tuple(config for config in self.configs if config.rung is rung)

    @property
    def may_fall_back(self) -> bool:
        """Whether both an int8 and an fp32 choice are there."""
        return bool(self.int8_configs) and any(config.is_fp32 for config in self.configs)


@dataclass(frozen=True)
class Recipe:
    """One choice for every op: what a trial converts and a file records.

    Example::

        recipe = Recipe.of({"net.fc": int8, "net.head": int8})
        recipe.with_fp32(["net.head"]).fp32_ops  # ("net.head",)
    """

    ops: tuple[tuple[str, OpConfig], ...]

    @classmethod
    def of(cls, ops: Mapping[str, OpConfig]) -> Recipe:
        """Build from a mapping of op name to config; the order is kept."""
        return cls(tuple(ops.items()))

    def as_mapping(self) -> dict[str, OpConfig]:
        """Return op name to config."""
        return dict(self.ops)

    @property
    def fp32_ops(self) -> tuple[str, ...]:
        """Names of the ops that stay in fp32."""
        return self.on(Rung.FP32)

    @property
    def int8_ops(self) -> tuple[str, ...]:
        """Names of the ops whose weights become int8, on whatever rung."""
        return tuple(name for name, config in self.ops if config.rung.is_int8)

    @property
    def reduced_ops(self) -> tuple[str, ...]:
        """Names of the ops that do not stay in fp32."""
        return tuple(name for name, config in self.ops if not config.is_fp32)

    @property
    def is_trained(self) -> bool:
        """Whether any op rounds as it was trained."""
        return any(config.is_trained for _, config in self.ops)

    def on(self, rung: Rung) -> tuple[str, ...]:
        """Return the names of the ops on one rung."""
        return tuple(name for name, config in self.ops if config.rung is rung)

    @property
    def rungs(self) -> dict[str, Rung]:
        """The rung of each op; that of a table that is int8 is ``STATIC``: nothing of it is found
        when it computes, and nothing is to be chosen.
        """
        return {name: Rung.STATIC if config.is_table else config.rung for name, config in self.ops}

    def with_fp32(self, names: Iterable[str]) -> Recipe:
        """Return a copy in which ``names`` stay in floating point."""
        chosen = set(names)
        return Recipe(tuple((n, FP32 if n in chosen else config) for n, config in self.ops))

    def with_configs(self, configs: Mapping[str, OpConfig]) -> Recipe:
        """Return a copy in which the ops that are named have these configs."""
        return Recipe(tuple((name, configs.get(name, config)) for name, config in self.ops))

    @property
    def key(self) -> str:
        """A short name that is equal exactly for equal choices, whatever their order."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Return op name to plain dict."""
        return {name: config.to_dict() for name, config in self.ops}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Recipe:
        """Build from what ``to_dict`` gave."""
        return cls(tuple((str(name), OpConfig.from_dict(op)) for name, op in plain.items()))


def config_of(plain: Mapping[str, Any]) -> OpConfig:
    """Return the config of an op that is described as plain values, whatever else these say.

    Raises:
        ConfError: if a field holds something that it cannot.

    Example::

        config_of({"activation": {"dtype": "fp32", "scale": 1.0}, "kind": "Linear"})  # FP32
    """
    sides = {side: plain[side] for side in ("activation", "weight") if plain.get(side) is not None}
    known = {
        side: {name: one[name] for name in _FIELDS if name in one} for side, one in sides.items()
    }
    return OpConfig.from_dict({**known, "corrections": plain.get("corrections", ())})


def _tensor(plain: Mapping[str, Any]) -> TensorConfig:
    if set(plain) - set(_FIELDS) or "dtype" not in plain:
        raise ConfError(f"a tensor needs `dtype` and may have {quoted(_ALLOWED)}: {plain}")
    return TensorConfig(**plain)


_ALLOWED: dict[str, tuple[object, ...]] = {
    "scheme": SCHEMES,
    "granularity": GRANULARITIES,
    "algorithm": ALGORITHMS,
    "quant_mode": QUANT_MODES,
    "group_size": GROUP_SIZES,
}
_FIELDS = ("dtype", *_ALLOWED)


def _check(field: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise ConfError(f"`{field}` is `{value}`; allowed: {quoted(allowed)}")


FP32 = OpConfig(TensorConfig(dtype="fp32"))
