"""The `pruning` section."""

from __future__ import annotations

import re
from dataclasses import replace

from lpot_lightning.conf.blocks import COUNT, NOT_NEGATIVE, FrozenOptions
from lpot_lightning.conf.cursor import Field, read_all, read_into
from lpot_lightning.conf.named import Table, flag, integer, one_of, read_options, words
from lpot_lightning.conf.plain import keys_of
from lpot_lightning.conf.schema import (
    ENDS,
    PrunerConf,
    PruningApproachConf,
    PruningConf,
    WeightCompressionConf,
)
from lpot_lightning.conf.train import read_train

SHARED = tuple(name for name in keys_of(WeightCompressionConf) if name in keys_of(PrunerConf))
CHANNEL = "channel"
PATTERN = re.compile(r"(tile_pattern_)?[1-9]\d{0,5}x[1-9]\d{0,5}", re.ASCII)
N_OF_M = re.compile(r"([1-9]\d{0,3}):([1-9]\d{0,3})", re.ASCII)
PATTERNS = (
    "`tile_pattern_1x1`, `tile_pattern_2x2`, `tile_pattern_1x16` and other sizes, tiles of the last"
    " two dimensions; `4x1` and other sizes, blocks of outputs x inputs; `2:4` and other N:M with"
    " N below M; `channel`"
)
STRUCTURED: Table = {
    "gradient_sensitivity": {
        "target": integer(COUNT),
        "stride": integer(COUNT),
        "transpose": flag,
        "normalize": flag,
        "index": integer(NOT_NEGATIVE),
        "importance_inputs": words,
        "importance_metric": one_of("abs_gradient", "weighted_gradient"),
    },
}
NEW_FORM = (
    "is LPOT 1.3's form; write `approach: {weight_compression: {target_sparsity: 0.97, "
    "pruners: [{prune_type: basic_magnitude, names: [conv1.weight]}]}}` under `pruning`."
)
REFUSED = dict.fromkeys(
    ("magnitude", "start_epoch", "end_epoch", "frequency", "init_sparsity", "target_sparsity"),
    NEW_FORM,
)
APPROACH_REFUSED = {"weight_magnitude": NEW_FORM}


def read_pruning(field: Field) -> PruningConf:
    """Read ``pruning``; at least one pruner is a must in it."""
    part = field.section(PruningConf, refused=REFUSED)
    return read_into(PruningConf, part, approach=_approach, train=read_train)


def _approach(field: Field) -> PruningApproachConf:
    part = field.section(PruningApproachConf, refused=APPROACH_REFUSED)
    return read_into(PruningApproachConf, part, weight_compression=_weight_compression)


def _weight_compression(field: Field) -> WeightCompressionConf:
    part, before = field.section(WeightCompressionConf), len(field.faults)
    _check_unit(part)
    if part["pruners"].value in (None, []) and not part["pruners"].excused:
        field.fault(
            "has no `pruners`, so nothing would be pruned; `pruners: [{}]` prunes every weight."
        )
    weights = read_into(WeightCompressionConf, part, pruners=_pruners)
    if any(part[key].given for key in ENDS["step"]):
        weights = replace(weights, start_epoch=None, end_epoch=None)
    if len(field.faults) > before:
        return weights  # which of two units is meant nobody knows
    for pruner, resolved in zip(part["pruners"].items(), weights.resolved(), strict=True):
        if resolved.prune_type != "pattern_lock":
            _check_schedule(pruner, resolved)
    return weights


def _pruners(field: Field) -> tuple[PrunerConf, ...]:
    those = dict(enumerate(field.items()))
    return tuple(read_all(those, lambda _, one: _pruner(one)).values())


def _pruner(field: Field) -> PrunerConf:
    part = field.required().section(*SHARED, PrunerConf)
    kind = part["prune_type"]
    _check_unit(part)
    pruner = read_into(
        PrunerConf,
        part,
        update_frequency=_update_frequency,
        pattern=_pattern,
        names=_names,
        excluded_names=_names,
        parameters=lambda given: _parameters(given, kind.text(PrunerConf.prune_type)),
    )
    if pruner.prune_type == "pattern_lock":
        _check_lock(part, pruner)
    else:
        _check_together(part, pruner)
    return pruner


def _update_frequency(field: Field) -> int:
    value = field.value
    if isinstance(value, float) and 0 < value < 1:  # as in LPOT's template; a step each epoch
        field.note(f"is `{value}`, and an epoch has one step; taken as `1`, which is as in LPOT")
        return 1
    return field.integer(1, COUNT)


def _names(field: Field) -> tuple[str, ...]:
    return () if field.value == [] else field.words(())


def _pattern(field: Field) -> str:
    value = field.value
    if isinstance(value, int) and 60 < value < 60 * 60:  # YAML 1.1 reads 2:4 as 2 minutes 4
        raise field.wrong(PATTERNS, f" If it was `{value // 60}:{value % 60}`, put it in quotes.")
    found = N_OF_M.fullmatch(value) if isinstance(value, str) else None
    if found and int(found[1]) < int(found[2]):
        return field.text("")
    if isinstance(value, str) and (value == CHANNEL or PATTERN.fullmatch(value)):
        return field.text("")
    raise field.wrong(PATTERNS)


def _check_unit(part: dict[str, Field]) -> None:
    """Refuse to count epochs and steps in one place."""
    epochs, steps = ([key for key in ENDS[unit] if part[key].given] for unit in ENDS)
    if epochs and steps:
        part[steps[0]].fault(
            f"counts steps of the optimizer, and `{epochs[0]}` beside it epochs; allowed: one of"
            " the two."
        )


def _check_lock(part: dict[str, Field], pruner: PrunerConf) -> None:
    """Refuse what has no meaning where zeros are only kept."""
    for key in (*SHARED, "update_frequency", "method", "pattern", "prune_domain"):
        if getattr(pruner, key) != getattr(PrunerConf, key):
            part[key].fault(
                "has no meaning for `prune_type: pattern_lock`, which keeps the zeros that are "
                "there when the training begins: leave it out."
            )


def _check_together(part: dict[str, Field], pruner: PrunerConf) -> None:
    """Refuse what contradicts itself within one pruner."""
    by_pattern = f"`pattern: {pruner.pattern}`"
    share = pruner.share_of_pattern
    if share is not None and pruner.target_sparsity not in (None, share):
        part["target_sparsity"].fault(
            f"is `{pruner.target_sparsity}`, and {by_pattern} leaves {share:g} of the weights "
            "zero: leave it out."
        )
    for key in ("method", "prune_domain"):
        value = getattr(pruner, key)
        if share is not None and value != getattr(PrunerConf, key):
            part[key].fault(
                f"is `{value}`, and {by_pattern} is the same in every {pruner.pattern[-1]} "
                "weights: leave it out."
            )
    if pruner.method == "per_channel" and pruner.prune_domain == "global":
        part["prune_domain"].fault(
            "is `global`, which ranks the weights of all tensors together, and `method: "
            "per_channel` gives every channel the same sparsity; allowed: one of the two."
        )
    if pruner.pattern == CHANNEL and pruner.method == "per_channel":
        part["method"].fault(f"is `per_channel`, and {by_pattern} prunes whole channels.")
    for key in ("pattern", "method"):
        if pruner.parameters is not None and getattr(pruner, key) != getattr(PrunerConf, key):
            part[key].fault("is given, and `parameters` says what goes together: leave one out.")
    if pruner.parameters and "target" in pruner.parameters and part["target_sparsity"].given:
        part["target_sparsity"].fault(
            "is given, and so is `parameters.target`, the number of groups to keep: leave one out."
        )


def _parameters(field: Field, kind: str) -> FrozenOptions:
    if kind not in STRUCTURED:
        raise field.error(
            f"is for `prune_type: gradient_sensitivity`, and this is `{kind}`: leave it out."
        )
    return read_options(field, STRUCTURED[kind])


def _check_schedule(field: Field, pruner: PrunerConf) -> None:
    ends = ENDS[pruner.unit or "epoch"]
    if getattr(pruner, ends[1]) is None:
        field.fault(
            f"has `{ends[0]}` and no `{ends[1]}`, the step that begins at the target: give both."
        )
        return
    for first, last in (ends, ("initial_sparsity", "target_sparsity")):
        low, high = getattr(pruner, first), getattr(pruner, last)
        if low > high:
            field.fault(
                f"goes from `{first}` {low} to `{last}` {high}; "
                f"allowed: `{first}` not above `{last}`."
            )
