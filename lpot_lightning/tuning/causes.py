"""Why an op is hurt by int8, or is not int8, and what can be done: facts in words, and YAML."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lpot_lightning.machine.columns import on_one_line
from lpot_lightning.recipe import OpConfig, Rung

OUTPUT_ERROR = "error of the output"
"""What tables and texts call what an op alone does to the output of the model; "its error" is that
of what the op itself gives."""


class CauseKind(StrEnum):
    """What stands in the way of int8."""

    UNEQUAL_CHANNELS = "unequal channels"
    """One scale is for channels of very different width."""
    OUTLIERS = "outliers"
    """A few values set the range of all."""
    NEGATIVE_TAIL = "negative tail"
    """Many values lie in a small negative part of the range, as behind SiLU, GELU, hardswish."""
    SLOWER = "slower than fp32"
    """The op was measured to be slower in int8."""
    NO_KERNEL = "no kernel"
    """Nothing computes it in int8."""
    NOT_TRACED = "not traced"
    """A module is no graph as it is written, and runs so, with floats between its layers."""
    ASKED_FOR = "asked for"
    """The YAML or ``modules`` keep the op in fp32."""
    NONE_OF_THESE = "none of these"
    """It is something else, or nothing that stands out."""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why one op is hurt, or not int8.

    Args:
        kind: in a word or two.
        found: the fact, with its numbers.
        remedy: what a user can do; empty where there is nothing that the run has not done or tried
            itself, and then ``found`` says so.
        repaired: what was done about it in the model that came out; empty if nothing was.

    Example::

        for op, cause in result.causes.items():
            print(f"{op}: {cause.told}; what to do: {cause.remedy or 'nothing'}")
    """

    kind: CauseKind
    found: str
    remedy: str
    repaired: str = ""

    @property
    def in_short(self) -> str:
        """The cause in a few words, for tables; empty where nothing stands out."""
        repaired = ["repaired"] if self.repaired else []
        return ", ".join([*self._named, *repaired])

    @property
    def told(self) -> str:
        """The cause and the fact, in one line."""
        return ": ".join([*self._named, self.found])

    @property
    def _named(self) -> list[str]:
        return [] if self.kind is CauseKind.NONE_OF_THESE else [self.kind.value]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**vars(self), "kind": self.kind.value}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Cause:
        """Build from what ``to_dict`` gave.

        Raises:
            ValueError: if there is no such kind.
        """
        return cls(**{**plain, "kind": CauseKind(plain["kind"])})


ENOUGH = 1 / 3
"""Of an error: what has to go with a cause, or by a remedy, for it to count."""
AS_GOOD = 2.0
"""A cause that leaves up to so many times the error that another leaves is as good an answer."""


def cause_of(error: float, without: Mapping[CauseKind, float | None]) -> CauseKind:
    """Return which of some causes an error comes of.

    It is the one without which least is left of the error, if at least ``ENOUGH`` of it goes; of
    those that leave about as little, the first.

    Args:
        error: not negative.
        without: the error that is left without each cause; ``None`` for one that is not there.

    Example::

        cause_of(0.2, {CauseKind.OUTLIERS: 0.01, CauseKind.NEGATIVE_TAIL: None})  # OUTLIERS
    """
    left = {
        kind: one
        for kind, one in without.items()
        if one is not None and math.isfinite(one) and one <= (1 - ENOUGH) * error
    }
    if not left or not error > 0:
        return CauseKind.NONE_OF_THESE
    least = min(left.values())
    return next(kind for kind, one in left.items() if one <= AS_GOOD * least)


def setting_yaml(op: str, config: OpConfig) -> str:
    """Return the YAML, in one line, by which one op is what ``config`` says.

    Example::

        setting_yaml("fc", FP32)
        # quantization: {op_wise: {'fc': {activation: {dtype: fp32}, weight: {dtype: fp32}}}}
    """
    return f"quantization: {{op_wise: {{{_quoted(op)}: {{{_sides(config)}}}}}}}"


def _quoted(op: str) -> str:
    """Return a name as a key in single quotes; one with line breaks as a regular expression."""
    if on_one_line(op) != op:  # a key is printable
        op = "".join(re.escape(one) if one.isprintable() else on_one_line(one) for one in op)
    return "'" + op.replace("'", "''") + "'"  # so YAML writes one within quotes


def recipe_yaml(correction: str) -> str:
    """Return the YAML, in one line, that asks for a correction of all ops that can have it."""
    return f"quantization: {{recipes: {{{correction}: true}}}}"


def _sides(config: OpConfig) -> str:
    activation, weight = config.activation, config.weight
    match config.rung:
        case Rung.STATIC:
            scheme, algorithm = activation.scheme, activation.algorithm
            first = f"activation: {{dtype: uint8, scheme: {scheme}, algorithm: {algorithm}}}"
            return f"{first}, weight: {{dtype: int8}}"
        case Rung.DYNAMIC:
            return "activation: {quant_mode: dynamic}"
        case Rung.WEIGHT_ONLY:
            size = None if weight is None else weight.group_size
            groups = "" if size is None else f", granularity: per_group, group_size: {size}"
            dtype = "uint8" if config.is_table else "int8"
            first = "" if config.is_table else "activation: {dtype: fp32}, "
            return f"{first}weight: {{dtype: {dtype}{groups}}}"
    dtype = config.rung.value
    return f"activation: {{dtype: {dtype}}}, weight: {{dtype: {dtype}}}"
