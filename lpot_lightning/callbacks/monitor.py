"""Which logged metric is the accuracy, and which way is up."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from lpot_lightning.errors import ConfError, EvaluationError, did_you_mean

_LOSS_LIKE = ("loss", "err", "mse", "mae", "rmse", "perplexity", "wer", "cer", "nll")


@dataclass(frozen=True)
class Monitor:
    """A logged metric and its direction."""

    name: str
    higher_is_better: bool


def find_monitor(
    given: str | None,
    asked_direction: bool | None,
    watchers: Sequence[Callback],
    logged: Collection[str],
    directions: Mapping[str, bool | None],
) -> Monitor:
    """Return the metric to tune by.

    Args:
        given: the callback's ``monitor`` argument.
        asked_direction: ``tuning.accuracy_criterion.higher_is_better`` of the YAML.
        watchers: callbacks, of which a ``ModelCheckpoint`` or ``EarlyStopping`` may name a metric.
        logged: the names that one validation pass logged.
        directions: ``higher_is_better`` of the torchmetrics objects among them.

    Raises:
        EvaluationError: if nothing is logged, the name is unknown or several would do.
        ConfError: if the direction is contradicted, or cannot be known.
    """
    if not logged:
        raise EvaluationError(
            "the validation loop logs nothing for the epoch: call `self.log('val_acc', …)` in"
            " `validation_step`, with `on_epoch=True` where `on_step` is given"
        )
    modes = _modes(watchers)
    name = given if given is not None else _default(modes, logged)
    if name not in logged:
        raise EvaluationError(
            f"`monitor` is `{name}`, which the validation loop does not log; it logs"
            f" {_names(logged)}.{did_you_mean(name, logged)}"
        )
    return Monitor(name, _direction(name, asked_direction, modes.get(name), directions.get(name)))


def _modes(watchers: Sequence[Callback]) -> dict[str, bool]:
    """Return monitor to ``higher_is_better`` of the callbacks that watch one."""
    found: dict[str, bool] = {}
    for callback in watchers:
        if isinstance(callback, ModelCheckpoint | EarlyStopping) and callback.monitor:
            found.setdefault(callback.monitor, callback.mode == "max")
    return found


def _default(modes: Mapping[str, bool], logged: Collection[str]) -> str:
    watched = [name for name in modes if name in logged]
    if len(watched) == 1:
        return watched[0]
    # logged by step and by epoch, a metric has its name twice
    single = [name for name in logged if name.removesuffix("_epoch") not in set(logged) - {name}]
    if not watched and len(single) == 1:
        return single[0]
    raise EvaluationError(
        f"the validation loop logs {_names(logged)}: say which one is the accuracy with `monitor`"
    )


def _direction(
    name: str, asked: bool | None, of_callback: bool | None, of_metric: bool | None
) -> bool:
    """Return the YAML's direction, else the watching callback's, else the metric's own."""
    known = {
        "`tuning.accuracy_criterion.higher_is_better`": asked,
        "the `mode` of the callback that monitors it": of_callback,
        "the metric itself": of_metric,
    }
    given = {source: value for source, value in known.items() if value is not None}
    if len(set(given.values())) > 1:
        said = ", ".join(f"{source} says {value}" for source, value in given.items())
        raise ConfError(f"whether a higher `{name}` is better is contradicted: {said}")
    if given:
        return next(iter(given.values()))
    if any(piece in name.lower() for piece in _LOSS_LIKE):
        raise ConfError(
            f"`{name}` is a plain number whose name sounds like a loss, and nothing says which way"
            " is better: set `tuning.accuracy_criterion.higher_is_better` in the YAML"
        )
    return True


def _names(logged: Collection[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(logged))
