"""The `tuning` section."""

from __future__ import annotations

from lpot_lightning.conf.cursor import COUNT, NOT_NEGATIVE, Field
from lpot_lightning.conf.schema import (
    AccuracyCriterionConf,
    ExitPolicyConf,
    StrategyConf,
    TuningConf,
    WorkspaceConf,
)

STRATEGIES = ("auto", "basic", "mse", "random", "exhaustive", "bayesian", "tpe")
STRATEGIES_REFUSED = {
    "sigopt": "a service that no longer exists",
    "automixedprecision": "LPOT's strategy for TensorFlow's mixed precision",
}
_ALLOWED = ", ".join(f"`{name}`" for name in STRATEGIES)
OBJECTIVES = ("performance", "modelsize", "footprint")
SIGOPT = "belongs to SigOpt, a service that no longer exists: leave it out."
STRATEGY_REFUSED = {
    name: SIGOPT for name in ("sigopt_api_token", "sigopt_project_id", "sigopt_experiment_name")
}


def read_tuning(field: Field) -> TuningConf:
    """Read ``tuning``; everything in it has a default. ``metric`` is read by ``evaluation``."""
    part = field.section(
        "strategy",
        "accuracy_criterion",
        "objective",
        "exit_policy",
        "random_seed",
        "tensorboard",
        "workspace",
        "metric",
    )
    return TuningConf(
        strategy=_strategy(part["strategy"]),
        accuracy_criterion=_criterion(part["accuracy_criterion"]),
        objective=_objective(part["objective"]),
        exit_policy=_exit_policy(part["exit_policy"]),
        random_seed=part["random_seed"].integer(1978, "[0, 4294967295]"),
        tensorboard=_tensorboard(part["tensorboard"]),
        workspace=_workspace(part["workspace"]),
    )


def _strategy(field: Field) -> StrategyConf:
    weights = ("accuracy_weight", "latency_weight")
    part = field.section("name", *weights, refused=STRATEGY_REFUSED)
    strategy = _strategy_name(part["name"])
    for key in weights:
        if part[key].given and strategy != "tpe":
            raise part[key].error(
                f"belongs to `tpe`, and the strategy is `{strategy}`: leave it out."
            )
    return StrategyConf(strategy, *(part[key].number(None, NOT_NEGATIVE) for key in weights))


def _strategy_name(field: Field) -> str:
    name = field.value
    if name in tuple(STRATEGIES_REFUSED):
        raise field.error(f"is `{name}`, {STRATEGIES_REFUSED[name]}; allowed: {_ALLOWED}.")
    return field.text("auto", STRATEGIES)


def _criterion(field: Field) -> AccuracyCriterionConf:
    if not field.given:
        return AccuracyCriterionConf(relative=0.01)
    part = field.section("relative", "absolute", "higher_is_better")
    if part["relative"].given == part["absolute"].given:
        came = "both" if part["relative"].given else "neither"
        raise field.error(f"gives {came} of `relative` and `absolute`; allowed: exactly one.")
    return AccuracyCriterionConf(
        relative=part["relative"].number(None, "(-1, 1)", percent=True),
        absolute=part["absolute"].number(None, percent=True),
        higher_is_better=part["higher_is_better"].flag(None),
    )


def _objective(field: Field) -> str:
    return field.text("performance", OBJECTIVES)


def _exit_policy(field: Field) -> ExitPolicyConf:
    part = field.section("timeout", "max_trials", "performance_only")
    return ExitPolicyConf(
        timeout=part["timeout"].number(0, NOT_NEGATIVE),
        max_trials=part["max_trials"].integer(100, COUNT),
        performance_only=part["performance_only"].flag(False),
    )


def _tensorboard(field: Field) -> bool:
    if field.flag(False):
        raise field.error(
            "is `true`, and what LPOT dumped there is not written here; the numbers "
            "of each trial go to the trainer's loggers: "
            "`Trainer(logger=TensorBoardLogger(...))`."
        )
    return False


def _workspace(field: Field) -> WorkspaceConf:
    part = field.section("path", "resume")
    return WorkspaceConf(path=part["path"].text(None), resume=part["resume"].text(None))
