"""Which ops the user's `modules` mean."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from lpot_lightning.conf.blocks import PrecisionWish
from lpot_lightning.conf.quantization import DYNAMIC
from lpot_lightning.conf.schema import Conf, QuantizationConf
from lpot_lightning.errors import ConfError, did_you_mean, quoted
from lpot_lightning.machine.instructions import NO_BF16, has_bf16
from lpot_lightning.quantization.backend import Prepared
from lpot_lightning.recipe import FP32, Op, Rung
from lpot_lightning.runs.ranker import asked_by
from lpot_lightning.tuning.space import OP_WISE, Space, build_space
from lpot_lightning.tuning.wish import Line, lines_of, meant, names_bf16

_SHOWN = 6
FLOATS = ("FloatFunctional", "FXFloatFunctional")
"""Torch's modules around a sum, a product or a concatenation, which have a child of their own."""


def checked_modules(modules: list[str] | None) -> tuple[str, ...]:
    """Return ``modules`` as a user gave them, empty where nothing is given.

    Raises:
        ConfError: if they are no list of names.
    """
    is_list = isinstance(modules, Iterable | None) and not isinstance(modules, str)
    if not is_list or any(not isinstance(name, str) for name in modules or []):
        raise ConfError(f"`modules` is `{modules!r}`; allowed: a list of names or globs")
    return tuple(modules or ())


def space_of(prepared: Prepared, conf: Conf, modules: Sequence[str], model: nn.Module) -> Space:
    """Return what every op may be, after ``modules`` and the conf were heard.

    LPOT's ops were modules, and some of them are none here, such as a ``FloatFunctional``, a norm
    or an activation: what ``op_wise`` asks of such a module has no effect, and ``notes`` say so.

    Raises:
        ConfError: if they ask for what cannot be, or leave nothing to be int8.
    """
    asked = conf.quantization
    ops = others_in_fp32(_without_bf16(prepared.ops, asked), modules)
    idle = _about_no_op(asked.op_wise, ops, model)
    op_wise = [(key, wish) for key, wish in asked.op_wise if key not in idle]
    space = build_space(
        ops,
        asked.model_wise,
        op_wise,
        asked.default_qconfig,
        asked_by(asked.recipes),
        rungs_of(conf),
    )
    if not any(op.reduced_configs for op in space.ops):
        raise ConfError(f"no op is left that may be int8: {'; '.join(_reasons(space))}")
    notes = *idle.values(), *space.notes, *_about_bf16(space.ops)
    return dataclasses.replace(space, notes=notes)


def _reasons(space: Space) -> list[str]:
    """Return why all ops are fp32."""
    found = [*space.without_rung]
    if len(found) < len(space.kinds):
        found.append(
            "`quantization.op_wise`, `quantization.model_wise` or `modules` keep all"
            f" {'others' if found else 'of them'} in fp32"
        )
    return found


def rungs_of(conf: Conf) -> frozenset[Rung]:
    """Return the rungs of ops of which the YAML does not say any.

    LPOT's strategies have those that its approach has; ``auto`` goes further down, too, and to bf16
    where the CPU has that. Without a calibration nothing is static.
    """
    first = Rung.DYNAMIC if conf.quantization.approach == DYNAMIC else Rung.STATIC
    lower = {Rung.DYNAMIC, Rung.WEIGHT_ONLY} if conf.tuning.strategy.name == "auto" else set()
    if lower and has_bf16():
        lower.add(Rung.BF16)
    return frozenset({first, Rung.FP32, *lower})


def _without_bf16(ops: Sequence[Op], asked: QuantizationConf) -> list[Op]:
    """Return ``ops`` without what this CPU computes slower than fp32, unless it is asked for."""
    wishes = (asked.model_wise, asked.default_qconfig, *(wish for _, wish in asked.op_wise))
    if has_bf16() or any(wish is not None and names_bf16(wish) for wish in wishes):
        return list(ops)
    return [
        dataclasses.replace(
            op, configs=tuple(one for one in op.configs if one.rung is not Rung.BF16)
        )
        for op in ops
    ]


def _about_bf16(ops: Sequence[Op]) -> list[str]:
    slow = [op.name for op in ops if op.configs[0].rung is Rung.BF16]
    if not slow or has_bf16():
        return []
    return [f"bf16 is asked for {quoted(slow, _SHOWN)}, and {NO_BF16}"]


def _about_no_op(
    op_wise: Iterable[tuple[str, PrecisionWish]], ops: Sequence[Op], model: nn.Module
) -> dict[str, str]:
    """Return the keys that mean modules which are no ops, each with what is to be said."""
    names = tuple(op.name for op in ops)
    owners = {name.partition("#")[0] for name in names}
    others = {name: one for name, one in model.named_modules() if name and name not in owners}
    notes = {}
    for key, wish in op_wise:
        where = f"{OP_WISE}.{key}"
        found = () if meant(key, where, names) else meant(key, where, tuple(others))
        if found and all(_asks_nothing(others[name], lines_of(where, wish)) for name in found):
            kinds = quoted(dict.fromkeys(type(others[name]).__name__ for name in found))
            notes[key] = f"`{where}` has no effect: {quoted(found, _SHOWN)} ({kinds}) is no op here"
    return notes


def _asks_nothing(module: nn.Module, lines: Iterable[Line]) -> bool:
    """Whether a module that is no op needs nothing to be as it is asked to be."""
    if type(module).__name__ in FLOATS:
        return True
    if next(module.children(), None) is not None:
        return False
    bare = next(module.parameters(), None) is None
    return bare or not any(line.forbids_fp32 for line in lines)


def others_in_fp32(ops: Sequence[Op], patterns: Sequence[str]) -> list[Op]:
    """Return all ops, with those that no pattern means held in floating point.

    Args:
        ops: what can be quantized.
        patterns: names or globs of ops, or of the modules around them; none means everything.

    Raises:
        ConfError: if a pattern matches nothing.

    Example::

        others_in_fp32(ops, ["backbone", "head.fc?"])
    """
    names = {op.name: _with_owners(op.name) for op in ops}
    for pattern in patterns:
        if not any(_matches(owners, [pattern]) for owners in names.values()):
            known = {owner for owners in names.values() for owner in owners}
            raise ConfError(
                f"`modules` has `{pattern}`, which matches no quantizable op"
                f" (they are {quoted(names, _SHOWN)}).{did_you_mean(pattern, known)}"
            )
    return [
        op
        if not patterns or _matches(names[op.name], patterns)
        else dataclasses.replace(op, configs=(FP32,))
        for op in ops
    ]


def _with_owners(op: str) -> list[str]:
    """Return the op's name and the path of every module around it."""
    pieces = op.partition("#")[0].split(".")
    return [op, *(".".join(pieces[:end]) for end in range(len(pieces), 0, -1))]


def _matches(owners: Iterable[str], patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(owner, pattern) for owner in owners for pattern in patterns)
