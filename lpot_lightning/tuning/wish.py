"""What a user asks of an op, and what is left of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from lpot_lightning.conf.blocks import PrecisionWish
from lpot_lightning.errors import ConfError, did_you_mean, quoted
from lpot_lightning.recipe import FP32, TRAINED, Op, OpConfig

_PLAIN_NAME = re.compile(r"[\w.\-/]+")
_NAMES_SHOWN = 8


@dataclass(frozen=True)
class Line:
    """One line of a wish, such as ``weight.granularity: [per_tensor]``, and the key above it."""

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
        return self.field == "dtype" and "fp32" not in self.wanted

    def concerns(self, op: Op) -> bool:
        """Return whether the line says something about ``op``.

        A dtype speaks of the op as a whole; the rest only of a tensor that the op has.
        """
        if self.field == "dtype":
            return True
        return any(getattr(config, self.side) is not None for config in op.int8_configs)

    def narrow(self, op: Op, *, strict: bool) -> Op | None:
        """Return ``op`` with the choices that meet the line, or ``None`` if there are none.

        Args:
            op: with the choices that are left so far.
            strict: whether a dtype without ``fp32`` takes away the way back to fp32.
        """
        fp32 = tuple(FP32 for config in op.configs if config.is_fp32)[:1]
        if self.stays_fp32:
            return replace(op, configs=fp32) if fp32 else None
        kept = self._keep(op.int8_configs)
        if strict and self.forbids_fp32:
            return replace(op, configs=kept) if kept else None
        if op.int8_configs and not kept:
            return None
        return replace(op, configs=kept + fp32)

    def can_be(self, op: Op) -> str:
        """Return what ``op`` can be on this line, for a message."""
        configs = op.configs if self.field == "dtype" else op.int8_configs
        values = dict.fromkeys(value for c in configs if (value := self._value(c)) is not None)
        return quoted(values) or "nothing else"

    def __str__(self) -> str:
        return f"{self.key}.{self.side}.{self.field}"

    def asked(self) -> str:
        """Return what is asked for, for a message."""
        return quoted(self.wanted) or "nothing"

    def _keep(self, configs: Iterable[OpConfig]) -> tuple[OpConfig, ...]:
        # A choice that leaves the field open meets every wish, as in LPOT.
        rank = {value: place for place, value in enumerate(self.wanted)}
        kept = [c for c in configs if self._value(c) is None or self._value(c) in rank]
        return tuple(sorted(kept, key=lambda c: self._place(c, rank)))

    def _place(self, config: OpConfig, rank: Mapping[str, int]) -> int:
        return -1 if config.is_trained else rank.get(self._value(config) or "", 0)

    def _value(self, config: OpConfig) -> str | None:
        if config.is_fp32:
            return "fp32" if self.field == "dtype" else None
        tensor = getattr(config, self.side)
        value: str | None = None if tensor is None else getattr(tensor, self.field)
        return "minmax" if value == TRAINED else value  # learned from the ends of each batch


def lines_of(key: str, wish: PrecisionWish) -> tuple[Line, ...]:
    """Return the lines that ``wish`` holds, the one that sorts first last.

    LPOT multiplies the lists out with the activation outermost; narrowing sorts stably, so the
    outermost line has to come last.

    Raises:
        ConfError: if one side asks for fp32 only and the other side for none.
    """
    found = tuple(
        Line(key, side, field, tuple(wanted))
        for side, asked in (("activation", wish.activation), ("weight", wish.weight))
        for field, wanted in vars(asked).items()
        if wanted is not None
    )
    _check_sides(key, found)
    return found[::-1]


def first_dtypes(key: str, wish: PrecisionWish) -> tuple[Line, ...]:
    """Return the first dtype of each side: all that LPOT reads of ``default_qconfig``."""
    lines = (line for line in lines_of(key, wish) if line.field == "dtype" and line.wanted)
    return tuple(replace(line, wanted=line.wanted[:1]) for line in lines)


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
            f"`{fp32[0]}` asks for `fp32` and `{int8[0]}` for {int8[0].asked()}; "
            "an op is fp32 on both sides or on none: change one of the two"
        )


def _some(names: tuple[str, ...]) -> str:
    rest = f", … ({len(names)} in all)" if len(names) > _NAMES_SHOWN else ""
    return (quoted(names[:_NAMES_SHOWN]) or "none") + rest
