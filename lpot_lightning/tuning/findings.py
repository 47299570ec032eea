"""What is found out about a recipe without a trial, and in which form a history holds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypedDict

from lpot_lightning.machine.typed import NotNegative, Positive, check_typed, look_up_hints
from lpot_lightning.recipe import Recipe
from lpot_lightning.training_log import TrainingLog
from lpot_lightning.tuning.about import About
from lpot_lightning.tuning.causes import CauseKind


class CostsFound(TypedDict):
    """What each op costs in fp32."""

    ops: dict[str, Positive]


class RankedOp(TypedDict):
    """How much an op hurts; ``None`` where that is not finite."""

    op: str
    damage: NotNegative | None
    cost: Positive


class RankingFound(TypedDict):
    """How much the int8 ops of a recipe hurt."""

    ops: list[RankedOp]


class RepairedOp(TypedDict):
    """What was done to an op, and its error before and after."""

    op: str
    what: str
    before: NotNegative
    after: NotNegative


class RepairFound(TypedDict):
    """What a recipe was repaired to."""

    repaired: dict[str, Any]
    repairs: list[RepairedOp]


def names_a_cause(value: str) -> bool:
    """Whether there is such a kind of causes."""
    return value in {one.value for one in CauseKind}


class CauseTold(TypedDict):
    """Why one op is hurt, and what helps."""

    kind: Annotated[str, names_a_cause]
    found: str
    remedy: str
    repaired: str


class CausesFound(TypedDict):
    """Why the ops that hurt most in a recipe do."""

    ops: dict[str, CauseTold]


def is_a_pair(values: list[Any]) -> bool:
    """Whether there are two values."""
    return len(values) == 2


TwoNumbers = Annotated[list[Positive], is_a_pair]


class SlowerOps(TypedDict):
    """Why ops do not pay."""

    ops: list[str]
    int8: NotNegative
    fp32: NotNegative
    spread: TwoNumbers
    share: NotNegative


class PayingFound(TypedDict):
    """What ops take in both precisions, and which do not pay."""

    times: dict[str, Annotated[list[float], is_a_pair]]
    slower: list[SlowerOps]
    all_slower: bool


class ShareFound(TypedDict):
    """How much of what an op costs in fp32 it costs on another rung."""

    share: NotNegative


class FloatFound(TypedDict):
    """Whether what is no op is faster in bfloat16."""

    faster: bool


class AboutFound(TypedDict):
    """What the run was asked for, and where it runs."""

    about: dict[str, Any]


class TrainingFound(TypedDict):
    """How the training went that the run followed."""

    log: dict[str, Any]


_FORMS: dict[str, Any] = {
    "costs": CostsFound,
    "ranking": RankingFound,
    "causes": CausesFound,
    "repair": RepairFound,
    "paying": PayingFound,
    "share": ShareFound,
    "float": FloatFound,
    "about": AboutFound,
    "training": TrainingFound,
}
FINDINGS = tuple(_FORMS)
look_up_hints(*_FORMS.values())


def check_finding(kind: str, content: Mapping[str, Any]) -> None:
    """Hold a finding against the form that its kind has.

    Args:
        kind: one of ``FINDINGS``.
        content: plain values.

    Raises:
        TypeError: if something is missing, unknown, of another type or out of its bounds.
        KeyError: if a log of a training lacks a part.
        ConfError: if it holds a recipe that is none.
    """
    check_typed(dict(content), _FORMS[kind], kind)
    if kind == "repair":
        Recipe.from_dict(content["repaired"])
    if kind == "about":
        About.from_dict(content["about"])
    if kind == "training":
        TrainingLog.from_dict(content["log"])


def ops_in(kind: str, content: Mapping[str, Any]) -> set[str]:
    """Return the names of the ops that a finding, which is checked, is about."""
    match kind:
        case "costs" | "causes":
            return set(content["ops"])
        case "ranking":
            return {one["op"] for one in content["ops"]}
        case "repair":
            return {*content["repaired"], *(one["op"] for one in content["repairs"])}
        case "paying":
            return {*content["times"], *(op for one in content["slower"] for op in one["ops"])}
    return set()
