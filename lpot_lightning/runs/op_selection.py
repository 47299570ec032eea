"""Which ops the user's `modules` mean."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import ConfError, did_you_mean, quoted
from lpot_lightning.quantization.backend import Prepared
from lpot_lightning.recipe import FP32, Op
from lpot_lightning.runs.ranker import asked_by
from lpot_lightning.tuning.space import Space, build_space

_SHOWN = 6


def checked_modules(modules: list[str] | None) -> tuple[str, ...]:
    """Return ``modules`` as a user gave them, empty where nothing is given.

    Raises:
        ConfError: if they are no list of names.
    """
    if isinstance(modules, str) or any(not isinstance(name, str) for name in modules or []):
        raise ConfError(f"`modules` is `{modules!r}`; allowed: a list of names or globs")
    return tuple(modules or ())


def space_of(prepared: Prepared, conf: Conf, modules: Sequence[str]) -> Space:
    """Return what every op may be, after ``modules`` and the conf were heard.

    Raises:
        ConfError: if they ask for what cannot be, or leave nothing to be int8.
    """
    asked = conf.quantization
    ops = others_in_fp32(prepared.ops, modules)
    space = build_space(
        ops, asked.model_wise, asked.op_wise, asked.default_qconfig, asked_by(asked.recipes)
    )
    if not any(op.int8_configs for op in space.ops):
        raise ConfError(
            "no op is left that may be int8: `quantization.op_wise`, `quantization.model_wise` or"
            " `modules` keep all of them in fp32"
        )
    return space


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
