"""What a user asks of an op, and what is left of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from lpot_lightning.conf.blocks import PrecisionWish, TensorConf
from lpot_lightning.errors import ConfError, did_you_mean, quoted
from lpot_lightning.recipe import FP32, TRAINED, Op, OpConfig, Rung

_PLAIN_NAME = re.compile(r"[\w.\-/]+")
_NAMES_SHOWN = 8


@dataclass(frozen=True)
class Line:
    """One line of a wish, such as ``weight.granularity: [per_tensor]``, and the key above it.

    The field ``rung`` is of two lines: an activation of fp32 and a weight of int8 are a rung.
    """

    key: str
    side: str
    field: str
    wanted: tuple[str, ...]

    @property
    def stays_fp32(self) -> bool:
        """Whether floating point is all that is asked for."""
        return self.field == "dtype" and set(self.wanted) == {"fp32"}

    @property
    def forbids_fp32(self) -> bool:
        """Whether a dtype is asked for that is not floating point."""
        return self.field in ("dtype", "rung") and "fp32" not in self.wanted

    def concerns(self, op: Op) -> bool:
        """Return whether the line says something about ``op``.

        A dtype speaks of the op as a whole; the rest only of a tensor that the op has.
        """
        if self.field in ("dtype", "rung", "quant_mode"):
            return True
        return any(getattr(config, self.side) is not None for config in op.reduced_configs)

    def narrow(self, op: Op, *, strict: bool) -> Op | None:
        """Return ``op`` with the choices that meet the line, or ``None`` if there are none.

        Args:
            op: with the choices that are left so far.
            strict: whether a dtype without ``fp32`` takes away the way back to fp32.
        """
        fp32 = tuple(FP32 for config in op.configs if config.is_fp32)[:1]
        if self.stays_fp32:
            return replace(op, configs=fp32) if fp32 else None
        kept = self._keep(op.reduced_configs, strict=strict)
        if strict and self.forbids_fp32:
            return replace(op, configs=kept) if kept else None
        if op.reduced_configs and not kept:
            return None
        return replace(op, configs=kept + fp32)

    def can_be(self, op: Op) -> str:
        """Return what ``op`` can be on this line, for a message."""
        configs = op.configs if self.field in ("dtype", "rung") else op.reduced_configs
        found = (self._value(config, strict=True) for config in configs)
        values = dict.fromkeys(value for value in found if value not in (None, _NONE))
        if not values and self.field in _OF_RUNGS:
            values = dict.fromkeys(config.rung.value for config in op.configs)
        return quoted(values) or "nothing else"

    def __str__(self) -> str:
        return f"{self.key}.{self.side}.{'dtype' if self.field == 'rung' else self.field}"

    def asked(self) -> str:
        """Return what is asked for, for a message."""
        return quoted(self.wanted) or "nothing"

    def _keep(self, configs: Iterable[OpConfig], *, strict: bool) -> tuple[OpConfig, ...]:
        # A choice that leaves the field open meets every wish, as in LPOT.
        rank: dict[str | None, int] = {value: place for place, value in enumerate(self.wanted)}
        values = {config: self._value(config, strict=strict) for config in configs}
        kept = [config for config, value in values.items() if value is None or value in rank]
        return tuple(sorted(kept, key=lambda c: -1 if c.is_trained else rank.get(values[c], 0)))

    def _value(self, config: OpConfig, *, strict: bool) -> str | None:
        """Return what a choice has in the field, ``None`` where it leaves that open.

        Args:
            config: the choice.
            strict: whether the wish is for this op: one for all ops says nothing of a rung that it
                does not speak of.
        """
        if self.field == "rung":
            return config.rung.value
        if config.is_fp32:
            return "fp32" if self.field == "dtype" else None
        if self.field == "quant_mode":
            return _MODES.get(config.rung, _NONE if strict else None)
        if self.field == "group_size":
            return _group_size(config)
        is_open = config.rung in _OPEN and self.side == "activation" and not config.is_table
        if is_open and (self.field != "dtype" or not strict):
            return None
        tensor = getattr(config, self.side)
        value: str | None = None if tensor is None else getattr(tensor, self.field)
        return "minmax" if value == TRAINED else value  # learned from the ends of each batch


_OF_RUNGS = ("quant_mode", "group_size")
"""Fields that ops have on some rungs only."""
_NONE = "none"
_MODES = {Rung.STATIC: "static", Rung.DYNAMIC: "dynamic"}
_OPEN = (Rung.DYNAMIC, Rung.WEIGHT_ONLY)
"""Rungs of which LPOT's fields say nothing: they are of ranges of activations that are found
before."""


def _group_size(config: OpConfig) -> str | None:
    if config.rung is not Rung.WEIGHT_ONLY or config.weight is None:
        return None
    return str(config.weight.group_size or _NONE)


def lines_of(key: str, wish: PrecisionWish) -> tuple[Line, ...]:
    """Return the lines that ``wish`` holds, the one that sorts first last.

    LPOT multiplies the lists out with the activation outermost; narrowing sorts stably, so the
    outermost line has to come last.

    Raises:
        ConfError: if one side asks for fp32 only and the other side for none.
    """
    weight_only = is_weight_only(wish)
    found = tuple(
        Line(key, side, field, tuple(map(str, wanted)))
        for side, asked in (("activation", wish.activation), ("weight", wish.weight))
        for field, wanted in vars(asked).items()
        if wanted is not None and not (weight_only and _says_rung(side, field, wanted))
    )
    if weight_only:
        return (*found[::-1], _weight_only_line(key, wish))
    _check_sides(key, found)
    return found[::-1]


def _says_rung(side: str, field: str, wanted: Iterable[object]) -> bool:
    """Whether a line of a weight-only op is told by its rung; weights of tables are ``uint8``."""
    return field == "dtype" and (side == "activation" or "int8" in wanted)


def _weight_only_line(key: str, wish: PrecisionWish) -> Line:
    fp32 = ("fp32",) if "fp32" in (wish.weight.dtype or ()) else ()
    return Line(key, "activation", "rung", (Rung.WEIGHT_ONLY.value, *fp32))


def is_weight_only(wish: PrecisionWish) -> bool:
    """Whether an activation of fp32 is asked for and a weight that is not, or need not be."""
    activation, weight = wish.activation.dtype, {*(wish.weight.dtype or ())}
    return activation == ("fp32",) and bool({"int8", "uint8"} & weight) and "bf16" not in weight


def names_rungs(wish: PrecisionWish) -> bool:
    """Whether a wish says on which rung an op is to be: LPOT had none besides the approach's."""
    activation, weight = wish.activation, wish.weight
    groups: Any = weight.group_size or "per_group" in (weight.granularity or ())
    others = activation.quant_mode is not None or is_weight_only(wish)
    return bool(groups) or names_bf16(wish) or others


def names_bf16(wish: PrecisionWish) -> bool:
    """Whether bf16 is among what a wish asks for."""
    return any("bf16" in (one.dtype or ()) for one in (wish.activation, wish.weight))


def default_of(wish: PrecisionWish) -> PrecisionWish:
    """Return what counts of ``default_qconfig``: the first dtype of each side, and its rung.

    LPOT reads the dtypes alone, and had no rungs.
    """
    return replace(wish, weight=_first(wish.weight), activation=_first(wish.activation))


def _first(asked: TensorConf) -> TensorConf:
    groups = "per_group" in (asked.granularity or ())
    return replace(
        asked,
        dtype=(asked.dtype or ())[:1] or None,
        scheme=None,
        algorithm=None,
        granularity=asked.granularity if groups else None,
    )


def matching(key: str, where: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the op names that ``key`` means.

    A key that equals a name means that op. Any other key with characters besides letters, digits
    and ``_ . - /`` is a regular expression that has to fit the whole name; LPOT anchored it at the
    start only, so that ``conv1[0]?`` also hit ``conv1_extra``.

    Raises:
        ConfError: if there is no such op, or the expression cannot be read.
    """
    found = meant(key, where, names)
    if not found:
        raise ConfError(
            f"`{where}` matches no op.{did_you_mean(key, names)} The ops are: {_some(names)}"
        )
    return found


def meant(key: str, where: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names that ``key`` means, as ``matching`` does; there may be none.

    Raises:
        ConfError: if the expression cannot be read.
    """
    if key in names:
        return (key,)
    return () if _PLAIN_NAME.fullmatch(key) else _fitting(key, where, names)


def _fitting(key: str, where: str, names: tuple[str, ...]) -> tuple[str, ...]:
    try:
        pattern = re.compile(key)
    except re.error as error:
        raise ConfError(
            f"`{where}` is neither the name of an op nor a regular expression: {error}; "
            f"the ops are: {_some(names)}"
        ) from error
    return tuple(name for name in names if pattern.fullmatch(name))


def _check_sides(key: str, lines: Iterable[Line]) -> None:
    lines = tuple(lines)
    fp32 = [line for line in lines if line.stays_fp32]
    int8 = [line for line in lines if line.forbids_fp32]
    if fp32 and int8:
        raise ConfError(
            f"`{fp32[0]}` asks for `fp32` and `{int8[0]}` for {int8[0].asked()}; an op whose weight"
            " is fp32 is so on both sides: change one of the two"
        )


def _some(names: tuple[str, ...]) -> str:
    rest = f", … ({len(names)} in all)" if len(names) > _NAMES_SHOWN else ""
    return (quoted(names[:_NAMES_SHOWN]) or "none") + rest
