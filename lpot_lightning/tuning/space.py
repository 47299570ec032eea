"""Which recipes are worth trying: wishes met with capability."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from lpot_lightning.conf.blocks import PrecisionWish
from lpot_lightning.errors import ConfError, quoted
from lpot_lightning.recipe import FP32, Op, OpConfig, Recipe, Rung
from lpot_lightning.tuning.wish import Line, default_of, lines_of, matching, names_rungs

_MODEL_WISE = "quantization.model_wise"
OP_WISE = "quantization.op_wise"
_DEFAULT = f"{OP_WISE}.default_qconfig"
_SHOWN = 6


@dataclass(frozen=True)
class Space:
    """What every op may be, after the user was heard.

    Args:
        ops: each with the choices that are left: int8 ones in the order of preference, ``FP32``
            last where the op may fall back.
        notes: one plain line for each wish of ``model_wise`` that a kind of op cannot meet, and
            for each of ``op_wise`` that is about no op, or about some that can be fp32 only.
        without_rung: those of kinds of op that have no rung here, and could have one.

    Example::

        space = build_space(ops, model_wise=None, op_wise=[])
        space.all_int8().with_fp32(space.fallback_candidates[:1])
    """

    ops: tuple[Op, ...]
    notes: tuple[str, ...] = ()
    without_rung: tuple[str, ...] = ()

    def all_int8(self) -> Recipe:
        """Return the recipe in which each op has its first choice."""
        return Recipe.of({op.name: op.configs[0] for op in self.ops})

    def calibrated(self) -> Recipe:
        """Return the recipe in which each op has its first choice of those that no training gave.

        It is ``all_int8`` where nothing was trained for int8.
        """
        return Recipe.of({op.name: _calibrated(op) for op in self.ops})

    @property
    def fallback_candidates(self) -> tuple[str, ...]:
        """Names of the ops that are int8 in ``all_int8`` and may stay in floating point."""
        return tuple(op.name for op in self.ops if op.may_fall_back)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of op, in the order in which they first come."""
        return tuple(dict.fromkeys(op.kind for op in self.ops))

    def int8_configs_of(self, kind: str) -> tuple[OpConfig, ...]:
        """Return the int8 choices of all ops of one kind, in the order in which they first come.

        They are without corrections: which ones an op can have is not a matter of its kind.
        """
        ops = (op for op in self.ops if op.kind == kind)
        configs = (replace(config, corrections=()) for op in ops for config in op.int8_configs)
        return tuple(dict.fromkeys(configs))


def build_space(
    ops: Sequence[Op],
    model_wise: PrecisionWish | None,
    op_wise: Sequence[tuple[str, PrecisionWish]],
    default: PrecisionWish | None = None,
    corrections: Collection[str] = (),
    rungs: Collection[Rung] = tuple(Rung),
) -> Space:
    """Return what is left of the capability of ``ops`` when the wishes are met.

    The rules are LPOT 1.x's (``lpot/conf/config.py``): every given list is intersected with the
    capability and sets the order of preference; ``model_wise`` first, then each matching entry of
    ``op_wise`` in its order. Unlike there, an intersection that leaves nothing is never silent.

    A dtype without ``fp32`` forbids an op of ``op_wise`` to fall back. In ``model_wise`` it only
    chooses among the int8 dtypes: LPOT's templates ship ``model_wise.activation.dtype: uint8``, and
    nobody who copies them means to give up the fallback of the whole model.

    Args:
        ops: what the model has and can.
        model_wise: a wish for all ops; a kind that cannot meet a line of it keeps its capability,
            and ``Space.notes`` says so.
        op_wise: wishes for single ops by name or regular expression.
        default: LPOT's ``default_qconfig``: its first dtype, and its rung, are meant for the ops
            that no entry of ``op_wise`` names; ``fp32`` leaves them all in floating point.
        corrections: what is done to the weights of every op that can have it.
        rungs: those of ops whose wishes do not name any.

    Raises:
        ConfError: if an entry of ``op_wise`` matches no op or asks for what its op cannot be, or
            if no op at all can be what ``model_wise`` asks for. Where an expression matches several
            ops, those that can be fp32 only are left alone, and ``Space.notes`` says so.

    Example::

        space = build_space(ops, model_wise=None, op_wise=[("net.fc", stays_fp32)])
        space.fallback_candidates  # ("net.conv1", "net.conv2")
    """
    names = tuple(op.name for op in ops)
    keyed = [(f"{OP_WISE}.{key}", key, wish) for key, wish in op_wise]
    hits = [(where, matching(key, where, names), wish) for where, key, wish in keyed]
    listed = {name for _, found, _ in hits for name in found}
    open_to_all = {name for _, found, wish in hits if names_rungs(wish) for name in found}
    if model_wise is not None and names_rungs(model_wise):
        open_to_all |= set(names)
    unlisted = [name for name in names if name not in listed]
    if default is not None:
        default = default_of(default)
        open_to_all |= {*unlisted} if names_rungs(default) else set()
    usual = [op if op.name in open_to_all else _on(rungs, op) for op in ops]
    merged = {op.name: _fp32_last(op) for op in usual}

    notes = without_rung = _without_rung(ops, usual)
    if model_wise is not None:
        notes = notes + _ask(lines_of(_MODEL_WISE, model_wise), names, merged)
    if default is not None:
        notes = notes + _ask(lines_of(_DEFAULT, default), unlisted, merged)
    for where, found, wish in hits:
        lines = lines_of(where, wish)
        able = _able(found, ops)
        _demand(lines, able, merged)
        notes = notes + _about_the_rest(where, lines, [one for one in found if one not in able])
    corrected = tuple(_corrected(op, corrections) for op in merged.values())
    return Space(corrected, tuple(dict.fromkeys(notes)), tuple(without_rung))


def _on(rungs: Collection[Rung], op: Op) -> Op:
    """Return ``op`` with the choices on some rungs, and fp32; a table has one in any case."""
    table = [one for one in op.configs if one.is_table][:1]
    kept = (one for one in op.configs if one.rung in rungs or one.is_fp32 or one in table)
    return replace(op, configs=tuple(kept) or (FP32,)) if op.configs else op


def _without_rung(ops: Iterable[Op], usual: Iterable[Op]) -> list[str]:
    """Return a note for each kind of op that has no rung here but fp32, and could have one."""
    pairs = zip(ops, usual, strict=True)
    lost = [op for op, left in pairs if op.reduced_configs and not left.reduced_configs]
    notes = {
        op.kind: f"`{op.kind}` stays in fp32 by this approach and strategy; it can be"
        f" {quoted(dict.fromkeys(one.rung.value for one in op.reduced_configs))}: ask for that in"
        f" `{OP_WISE}`, or use strategy `auto`"
        for op in lost
    }
    return list(notes.values())


def _corrected(op: Op, asked: Collection[str]) -> Op:
    those = tuple(one for one in op.corrections if one in asked)
    # what was trained is not changed
    as_is = (c.rung is not Rung.STATIC or c.is_trained for c in op.configs)
    configs = (
        c if keep else replace(c, corrections=those)
        for c, keep in zip(op.configs, as_is, strict=True)
    )
    return replace(op, configs=tuple(configs))


def _calibrated(op: Op) -> OpConfig:
    return next((one for one in op.int8_configs if not one.is_trained), op.configs[0])


def _fp32_last(op: Op) -> Op:
    if not op.configs:
        raise ConfError(f"`{op.name}` can be nothing at all, neither int8 nor fp32")
    fp32 = (FP32,) if any(config.is_fp32 for config in op.configs) else ()
    return replace(op, configs=op.reduced_configs + fp32)


def _ask(lines: Iterable[Line], names: Sequence[str], merged: dict[str, Op]) -> list[str]:
    """Narrow where it can be done; return a note for each kind where it cannot."""
    notes: list[str] = []
    for line in lines:
        concerned = [merged[name] for name in names if _can_be_asked(line, merged[name])]
        narrowed = {op.name: line.narrow(op, strict=False) for op in concerned}
        unmet = [op for op in concerned if narrowed[op.name] is None]
        if unmet and len(unmet) == len(concerned):
            raise ConfError(
                f"`{line}` asks for {line.asked()}, which no op of this model can be; "
                f"they can be {line.can_be(unmet[0])} (`{unmet[0].name}`)"
            )
        notes += [
            f"`{op.kind}` keeps {line.side} {line.field} {line.can_be(op)}: "
            f"`{line}` asks for {line.asked()}, which it cannot be"
            for op in unmet
        ]
        merged.update(_met(narrowed))
    return notes


def _able(names: tuple[str, ...], ops: Sequence[Op]) -> tuple[str, ...]:
    """Return those of ``names`` that can be something else than fp32; all, where none can.

    An expression means many ops: one among them that is never called, or is left out by
    ``modules``, is no reason to refuse it.
    """
    fixed = {op.name for op in ops if not op.reduced_configs}
    return tuple(name for name in names if name not in fixed) or names


def _about_the_rest(where: str, lines: Iterable[Line], names: Sequence[str]) -> list[str]:
    if not names or not any(line.forbids_fp32 for line in lines):
        return []
    return [f"`{where}` has no effect on {quoted(names, _SHOWN)}, which can be fp32 only"]


def _demand(lines: Iterable[Line], names: Sequence[str], merged: dict[str, Op]) -> None:
    """Narrow, or say which op cannot be what is asked for."""
    for line in lines:
        concerned = [merged[name] for name in names if line.concerns(merged[name])]
        if not concerned and any(merged[name].reduced_configs for name in names):
            raise ConfError(f"`{line}` speaks of a {line.side}, and `{names[0]}` has none")
        narrowed = {op.name: line.narrow(op, strict=True) for op in concerned}
        for op in concerned:
            if narrowed[op.name] is None:
                raise ConfError(
                    f"`{line}` asks `{op.name}` for {line.asked()}; with what is asked before, it "
                    f"can be {line.can_be(op)}: choose among these or leave the line out"
                )
        merged.update(_met(narrowed))


def _can_be_asked(line: Line, op: Op) -> bool:
    return bool(op.reduced_configs) and line.concerns(op)


def _met(narrowed: Mapping[str, Op | None]) -> dict[str, Op]:
    return {name: op for name, op in narrowed.items() if op is not None}
