"""The `pruning` section."""

from __future__ import annotations

import re

from lpot_lightning.conf.blocks import FrozenOptions
from lpot_lightning.conf.cursor import COUNT, NOT_NEGATIVE, Field
from lpot_lightning.conf.named import Table, flag, integer, one_of, read_options, words
from lpot_lightning.conf.schema import (
    SHARED_BY_PRUNERS,
    PrunerConf,
    PruningApproachConf,
    PruningConf,
    WeightCompressionConf,
)
from lpot_lightning.conf.train import read_train

PRUNE_TYPES = ("basic_magnitude", "gradient_sensitivity", "pattern_lock")
METHODS = ("per_tensor", "per_channel")
DOMAINS = ("local", "global")
SCHEDULES = ("linear", "cubic")
SHARED = SHARED_BY_PRUNERS
OWN = (
    "update_frequency",
    "prune_type",
    "method",
    "pattern",
    "prune_domain",
    "names",
    "excluded_names",
    "parameters",
)
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
    part = field.section("approach", "train", refused=REFUSED)
    approach = part["approach"].required().section("weight_compression", refused=APPROACH_REFUSED)
    weights = _weight_compression(approach["weight_compression"].required())
    return PruningConf(PruningApproachConf(weights), read_train(part["train"]))


def _weight_compression(field: Field) -> WeightCompressionConf:
    part = field.section(*SHARED, "pruners")
    pruners = part["pruners"].items()
    if not pruners:
        raise field.error(
            "has no `pruners`, so nothing would be pruned; `pruners: [{}]` prunes every weight."
        )
    weights = WeightCompressionConf(
        initial_sparsity=part["initial_sparsity"].number(0.0, "[0, 1)"),
        target_sparsity=part["target_sparsity"].number(0.97, "[0, 1]"),
        start_epoch=part["start_epoch"].integer(0, NOT_NEGATIVE),
        end_epoch=part["end_epoch"].integer(4, NOT_NEGATIVE),
        schedule=part["schedule"].text(SCHEDULES[0], SCHEDULES),
        pruners=tuple(_pruner(pruner.required()) for pruner in pruners),
    )
    for pruner, resolved in zip(pruners, weights.resolved(), strict=True):
        if resolved.prune_type != "pattern_lock":
            _check_schedule(pruner, resolved)
    return weights


def _pruner(field: Field) -> PrunerConf:
    part = field.section(*SHARED, *OWN)
    kind = part["prune_type"].text(PRUNE_TYPES[0], PRUNE_TYPES)
    pruner = PrunerConf(
        initial_sparsity=part["initial_sparsity"].number(None, "[0, 1)"),
        target_sparsity=part["target_sparsity"].number(None, "[0, 1]"),
        start_epoch=part["start_epoch"].integer(None, NOT_NEGATIVE),
        end_epoch=part["end_epoch"].integer(None, NOT_NEGATIVE),
        schedule=part["schedule"].text(None, SCHEDULES),
        update_frequency=part["update_frequency"].integer(1, COUNT),
        prune_type=kind,
        method=part["method"].text(METHODS[0], METHODS),
        pattern=_pattern(part["pattern"]),
        prune_domain=part["prune_domain"].text(DOMAINS[0], DOMAINS),
        names=_names(part["names"]),
        excluded_names=_names(part["excluded_names"]),
        parameters=_parameters(part["parameters"], kind),
    )
    if kind == "pattern_lock":
        _check_lock(part, pruner)
    _check_together(part, pruner)
    return pruner


def _names(field: Field) -> tuple[str, ...]:
    return () if field.value == [] else field.words(())


def _pattern(field: Field) -> str:
    if not field.given:
        return "tile_pattern_1x1"
    value = field.value
    if isinstance(value, int) and 60 < value < 60 * 60:  # YAML 1.1 reads 2:4 as 2 minutes 4
        raise field.wrong(PATTERNS, f" If it was `{value // 60}:{value % 60}`, put it in quotes.")
    found = N_OF_M.fullmatch(value) if isinstance(value, str) else None
    if found and int(found[1]) < int(found[2]):
        return field.text("")
    if isinstance(value, str) and (value == CHANNEL or PATTERN.fullmatch(value)):
        return field.text("")
    raise field.wrong(PATTERNS)


def _check_lock(part: dict[str, Field], pruner: PrunerConf) -> None:
    """Refuse what has no meaning where zeros are only kept."""
    usual = PrunerConf()
    for key in (*SHARED, "update_frequency", "method", "pattern", "prune_domain"):
        if getattr(pruner, key) != getattr(usual, key):
            raise part[key].error(
                "has no meaning for `prune_type: pattern_lock`, which keeps the zeros that are "
                "there when the training begins: leave it out."
            )


def _check_together(part: dict[str, Field], pruner: PrunerConf) -> None:
    """Refuse what contradicts itself within one pruner."""
    by_pattern = f"`pattern: {pruner.pattern}`"
    share = pruner.share_of_pattern
    if share is not None and pruner.target_sparsity not in (None, share):
        raise part["target_sparsity"].error(
            f"is `{pruner.target_sparsity}`, and {by_pattern} leaves {share:g} of the weights "
            "zero: leave it out."
        )
    for key, value, usual in (
        ("method", pruner.method, METHODS[0]),
        ("prune_domain", pruner.prune_domain, DOMAINS[0]),
    ):
        if share is not None and value != usual:
            raise part[key].error(
                f"is `{value}`, and {by_pattern} is the same in every {pruner.pattern[-1]} "
                "weights: leave it out."
            )
    if pruner.method == "per_channel" and pruner.prune_domain == "global":
        raise part["prune_domain"].error(
            "is `global`, which ranks the weights of all tensors together, and `method: "
            "per_channel` gives every channel the same sparsity; allowed: one of the two."
        )
    if pruner.pattern == CHANNEL and pruner.method == "per_channel":
        raise part["method"].error(f"is `per_channel`, and {by_pattern} prunes whole channels.")
    for key in ("pattern", "method"):
        if pruner.parameters is not None and getattr(pruner, key) != getattr(PrunerConf(), key):
            raise part[key].error(
                "is given, and `parameters` says what goes together: leave one out."
            )
    if pruner.parameters and "target" in pruner.parameters and part["target_sparsity"].given:
        raise part["target_sparsity"].error(
            "is given, and so is `parameters.target`, the number of groups to keep: leave one out."
        )


def _parameters(field: Field, kind: str) -> FrozenOptions | None:
    if not field.given:
        return None
    if kind not in STRUCTURED:
        raise field.error(
            f"is for `prune_type: gradient_sensitivity`, and this is `{kind}`: leave it out."
        )
    return read_options(field, STRUCTURED[kind])


def _check_schedule(field: Field, pruner: PrunerConf) -> None:
    _check_order(field, "start_epoch", pruner.start_epoch, "end_epoch", pruner.end_epoch)
    _check_order(
        field,
        "initial_sparsity",
        pruner.initial_sparsity,
        "target_sparsity",
        pruner.target_sparsity,
    )


def _check_order(
    field: Field, first: str, low: float | None, second: str, high: float | None
) -> None:
    if low is not None and high is not None and low > high:
        raise field.error(
            f"goes from `{first}` {low} to `{second}` {high}; "
            f"allowed: `{first}` not above `{second}`."
        )
