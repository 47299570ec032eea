"""The `pruning` section."""

from __future__ import annotations

from lpot_lightning.conf.blocks import Options
from lpot_lightning.conf.cursor import COUNT, NOT_NEGATIVE, Field
from lpot_lightning.conf.named import Table, flag, integer, one_of, read_options, words
from lpot_lightning.conf.schema import (
    PrunerConf,
    PruningApproachConf,
    PruningConf,
    WeightCompressionConf,
)
from lpot_lightning.conf.train import read_train

PRUNE_TYPES = ("basic_magnitude", "gradient_sensitivity", "pattern_lock")
METHODS = ("per_tensor", "per_channel")
SHARED = ("initial_sparsity", "target_sparsity", "start_epoch", "end_epoch")
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
        pruners=tuple(_pruner(pruner.required()) for pruner in pruners),
    )
    for pruner, resolved in zip(pruners, weights.resolved(), strict=True):
        _check_schedule(pruner, resolved)
    return weights


def _pruner(field: Field) -> PrunerConf:
    part = field.section(*SHARED, "update_frequency", "prune_type", "method", "names", "parameters")
    kind = part["prune_type"].text(PRUNE_TYPES[0], PRUNE_TYPES)
    return PrunerConf(
        initial_sparsity=part["initial_sparsity"].number(None, "[0, 1)"),
        target_sparsity=part["target_sparsity"].number(None, "[0, 1]"),
        start_epoch=part["start_epoch"].integer(None, NOT_NEGATIVE),
        end_epoch=part["end_epoch"].integer(None, NOT_NEGATIVE),
        update_frequency=part["update_frequency"].integer(1, COUNT),
        prune_type=kind,
        method=part["method"].text(METHODS[0], METHODS),
        names=() if part["names"].value == [] else part["names"].words(()),
        parameters=_parameters(part["parameters"], kind),
    )


def _parameters(field: Field, kind: str) -> Options | None:
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
