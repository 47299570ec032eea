"""What was simulated of an op that int8 hurts, in words."""

from __future__ import annotations

from lpot_lightning.quantization.diagnosing.diagnosis import OUTER, UNEQUAL, Diagnosis
from lpot_lightning.recipe import OpConfig, Rung
from lpot_lightning.tuning.causes import ENOUGH, CauseKind, setting_yaml
from lpot_lightning.tuning.repair import EQUALIZATION

NOT_FINITE = "what it gives in int8 is not finite"
_ROWS = "its rows have ranges of their own, and 8 bits are too few for them"
_WEIGHTS = "its input is not rounded, and 8 bits are too few for its weight"


def left_by(found: Diagnosis) -> dict[CauseKind, float | None]:
    """Return the error that is left without each cause, in the order of preference."""
    return {
        CauseKind.UNEQUAL_CHANNELS: found.without_spread,
        CauseKind.OUTLIERS: found.without_outliers,
        CauseKind.NEGATIVE_TAIL: found.without_tail,
    }


def told(kind: CauseKind, found: Diagnosis) -> str:
    """Return the fact that a cause is, with its numbers."""
    left = left_by(found).get(kind)
    if left is None:
        return _of_bits(found)
    fact, without = _fact(kind, found)
    return f"{fact}; {without} its error goes from {found.error:.2g} to {left:.2g}"


def _fact(kind: CauseKind, found: Diagnosis) -> tuple[str, str]:
    if kind is CauseKind.UNEQUAL_CHANNELS:
        return _unequal(found), "with a scale for each"
    if kind is CauseKind.OUTLIERS:
        rest = f"{1 - OUTER:.1%} of the values"
        wide = _times(found.reach)
        return f"the range of its input is {wide} as wide as that of {rest}", "without the others"
    levels, of = found.levels
    return (
        f"{found.negatives:.0%} of the values of its input lie between {found.least:.2g} and 0,"
        f" and get {levels} of {of} levels",
        "with as many as all have",
    )


def _unequal(found: Diagnosis) -> str:
    if found.spread >= UNEQUAL:
        times = _times(found.spread)
        rest = f" that is not always 0, as {found.dead} are" if found.dead else ""
        widest = f"the widest of {found.channels} input channels"
        return f"{widest} is {times} as wide as the narrowest{rest}"
    times = _times(found.weight_spread)
    return f"of {found.channels} input channels one is read by weights {times} those of another"


def _of_bits(found: Diagnosis) -> str:
    share = found.of_weights / found.error if found.error > 0 else 0.0
    if share >= 1 - ENOUGH:
        return "its weight makes most of its error: 8 bits are too few for it"
    if share <= ENOUGH:
        return "its input makes most of its error: 8 bits are too few for it"
    return f"its weight makes {share:.0%} of its error, its input the rest: 8 bits are too few"


def of_rung(config: OpConfig) -> str:
    """Return what is known of an op that is simulated by nothing but its own form."""
    return _ROWS if config.rung is Rung.DYNAMIC else _WEIGHTS


def deed(config: OpConfig, was: OpConfig) -> str:
    """Return what it is to change an op from ``was`` to ``config``."""
    added = [one for one in config.corrections if one not in was.corrections]
    if EQUALIZATION in added:
        return (
            "even the channels out against the weights, as strategy `auto` does by itself unless it"
            " is forbidden"
        )
    if added:
        return "correct what rounding does to the weights"
    return {
        Rung.STATIC: "find the range otherwise",
        Rung.DYNAMIC: "let each row have a range of its own, found when it comes",
        Rung.WEIGHT_ONLY: "keep the weights alone in 8 bits",
        Rung.FP32: "leave it in fp32",
    }.get(config.rung, f"compute it in {config.rung.value}")


def op_wise(op: str, config: OpConfig) -> str:
    """Return the YAML by which an op is what ``config`` says, as it stands in a text."""
    return f"`{setting_yaml(op, config)}`"


def _times(ratio: float) -> str:
    if ratio > 1e6:
        return "over 1,000,000x"
    return f"{ratio:,.0f}x" if ratio >= 10 else f"{ratio:.1f}x"
