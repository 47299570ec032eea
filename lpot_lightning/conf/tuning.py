"""The `tuning` section."""

from __future__ import annotations

import re

from lpot_lightning.conf.cursor import Field, read_into
from lpot_lightning.conf.schema import (
    AccuracyCriterionConf,
    ExitPolicyConf,
    StrategyConf,
    TuningConf,
    WorkspaceConf,
)
from lpot_lightning.errors import quoted

STRATEGIES = ("auto", "basic", "mse", "random", "exhaustive", "bayesian", "tpe")
STRATEGIES_REFUSED = {
    "sigopt": "a service that no longer exists",
    "automixedprecision": "LPOT's strategy for TensorFlow's mixed precision",
}
_ALLOWED = quoted(STRATEGIES)
_URL = re.compile(r"[A-Za-z][\w+.\-]+://")
SIGOPT = "belongs to SigOpt, a service that no longer exists: leave it out."
STRATEGY_REFUSED = {
    name: SIGOPT for name in ("sigopt_api_token", "sigopt_project_id", "sigopt_experiment_name")
}


def read_tuning(field: Field) -> TuningConf:
    """Read ``tuning``; everything in it has a default. ``metric`` is read by ``evaluation``."""
    return read_into(
        TuningConf,
        field.section(TuningConf, "metric"),
        strategy=_strategy,
        accuracy_criterion=_criterion,
        exit_policy=lambda policy: read_into(ExitPolicyConf, policy),
        tensorboard=_tensorboard,
        workspace=lambda workspace: read_into(
            WorkspaceConf, workspace, path=_folder_here, resume=_folder_here
        ),
    )


def _folder_here(field: Field) -> str:
    path = field.text("")
    if _URL.match(path):
        raise field.error(
            f"is `{path}`, which is no folder of this machine; a run locks its workspace, and"
            " writes files whole or not at all; allowed: a folder. Copy the files when the run is"
            " over."
        )
    return path


def _strategy(field: Field) -> StrategyConf:
    part = field.section(StrategyConf, refused=STRATEGY_REFUSED)
    found = read_into(StrategyConf, part, name=_strategy_name)
    for key in ("accuracy_weight", "latency_weight"):
        if part[key].given and found.name != "tpe":
            part[key].fault(f"belongs to `tpe`, and the strategy is `{found.name}`: leave it out.")
    return found


def _strategy_name(field: Field) -> str:
    name = field.value
    if name in tuple(STRATEGIES_REFUSED):
        raise field.error(f"is `{name}`, {STRATEGIES_REFUSED[name]}; allowed: {_ALLOWED}.")
    return field.text(StrategyConf.name, STRATEGIES)


def _criterion(field: Field) -> AccuracyCriterionConf:
    part = field.section(AccuracyCriterionConf)
    relative = part["relative"]
    if relative.given == part["absolute"].given and not relative.excused:
        came = "both" if relative.given else "neither"
        field.fault(f"gives {came} of `relative` and `absolute`; allowed: exactly one.")
    return read_into(AccuracyCriterionConf, part, relative=_share)


def _share(field: Field) -> float | None:
    """Read a share; of what was meant as a percentage it is said how that is written."""
    value = field.value
    if isinstance(value, int | float) and not isinstance(value, bool) and 1 <= abs(value) < 100:
        raise field.error(
            f"is `{value}`, and a share is meant: {value:g} % is `{value / 100:g}` or"
            f' `{value:g}%`; allowed: a number or a percentage such as "1%" in (-1, 1).'
        )
    return field.number(None, "(-1, 1)", percent=True)


def _tensorboard(field: Field) -> bool:
    if field.flag(False):
        field.note(
            "is `true` and has no effect; the tensors that LPOT dumped are not written. The"
            " numbers of each trial go to the trainer's loggers, such as `TensorBoardLogger`, and"
            " `lpot-lightning show` prints what became of each op"
        )
    return False
