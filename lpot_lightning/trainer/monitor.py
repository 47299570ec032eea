"""Which logged metric is the accuracy, and which way is up."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from lpot_lightning.errors import ConfError, EvaluationError, did_you_mean, quoted
from lpot_lightning.judging.protocols import Monitor
from lpot_lightning.trainer.package import either

_WATCHERS = (ModelCheckpoint, EarlyStopping)
_OF_A_LOADER = "/dataloader_idx_"  # how Lightning ends names where there are several
_LOSS_LIKE = ("loss", "err", "mse", "mae", "rmse", "perplexity", "wer", "cer", "nll")
_ACCURACY_LIKE = re.compile(
    "acc|auc|auroc|precision|recall|iou|dice|psnr|ssim|bleu|rouge|kappa|ndcg"
    "|(?<![a-z])(?:f1|r2|map|ap|top)(?![a-z])"
)
"""What is in names of which everybody knows that more is better."""


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
        watchers: callbacks, of which a ``ModelCheckpoint`` may name a metric, else an
            ``EarlyStopping``: the first chooses the weights, the second only ends the training.
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
    name = given if given is not None else _default(watchers, logged)
    if name not in logged:
        raise EvaluationError(_unknown(name, logged))
    modes = _modes(watchers, name)
    known = _direction(name, asked_direction, modes, directions.get(name))
    if known is not None:
        return Monitor(name, known)
    return Monitor(name, True, is_guessed=_ACCURACY_LIKE.search(name.lower()) is None)


def named_by(watchers: Sequence[Callback], kinds: Sequence[type[Callback]] = _WATCHERS) -> set[str]:
    """Return the metrics that callbacks of these kinds watch, whether or not they are logged."""
    found = (getattr(one, "monitor", None) for one in watchers if isinstance(one, either(*kinds)))
    return {name for name in found if name}


def is_same(one: str | None, other: str) -> bool:
    """Return whether two names are of one metric: Lightning forks what is logged by step as well.

    Example::

        is_same("val_acc_epoch", "val_acc")  # True
    """
    return one is not None and _bare(one) == _bare(other)


def _bare(name: str) -> str:
    return name.removesuffix("_epoch")


def _modes(watchers: Sequence[Callback], name: str) -> list[tuple[str, bool]]:
    """Return the kinds of callbacks that watch a metric, with whether higher is better to each."""
    found = []
    for kind in _WATCHERS:
        watching: Any = [one for one in watchers if isinstance(one, either(kind))]
        watch = [one for one in watching if is_same(one.monitor, name)]
        for is_max in sorted({one.mode == "max" for one in watch}):
            found.append((f"the `mode` of the `{kind.__name__}` that monitors it", is_max))
    return found


def _default(watchers: Sequence[Callback], logged: Collection[str]) -> str:
    for kind in _WATCHERS:
        watched = named_by(watchers, [kind]) & set(logged)
        if len({_bare(name) for name in watched}) == 1:
            return min(watched, key=len)
        if watched:
            raise EvaluationError(
                f"several `{kind.__name__}` watch {_names(watched)}: say which one is the accuracy"
                " with `monitor`"
            )
    # logged by step and by epoch, a metric has its name twice
    single = [name for name in logged if name.removesuffix("_epoch") not in set(logged) - {name}]
    if len(single) == 1:
        return single[0]
    raise EvaluationError(
        f"the validation loop logs {_names(logged)}: say which one is the accuracy with `monitor`"
    )


def _unknown(name: str, logged: Collection[str]) -> str:
    of_loaders = [one for one in logged if one.startswith(f"{name}{_OF_A_LOADER}")]
    if of_loaders:
        return (
            f"`monitor` is `{name}`, which is logged for each of {len(of_loaders)} validation"
            f" dataloaders: say which one, of {_names(of_loaders)}"
        )
    return (
        f"`monitor` is `{name}`, which the validation loop does not log; it logs"
        f" {_names(logged)}.{did_you_mean(name, logged) or _of_that_end(name, logged)}"
    )


def _of_that_end(name: str, logged: Collection[str]) -> str:
    """Propose `val/f1` to who says `f1`, if it is the only one."""
    near = [one for one in logged if _last(one) == _last(name)]
    return f" Did you mean `{near[0]}`?" if len(near) == 1 else ""


def _last(name: str) -> str:
    return re.split("[/_.]", _bare(name).lower())[-1]


def _direction(
    name: str, asked: bool | None, watched: Sequence[tuple[str, bool]], of_metric: bool | None
) -> bool | None:
    """Return the YAML's direction, else the watching callbacks', the metric's own, or ``None``."""
    sources = [source for source, _ in watched]
    one_sided = [(source, mode) for source, mode in watched if sources.count(source) == 1]
    known = [
        ("`tuning.accuracy_criterion.higher_is_better`", asked),
        *(one_sided or (watched if asked is None and of_metric is None else [])),
        ("the metric itself", of_metric),
    ]
    given = [(source, value) for source, value in known if value is not None]
    if len({value for _, value in given}) > 1:
        said = ", ".join(f"{source} says {value}" for source, value in given)
        raise ConfError(f"whether a higher `{name}` is better is contradicted: {said}")
    if given:
        return given[0][1]
    if any(piece in name.lower() for piece in _LOSS_LIKE):
        raise ConfError(
            f"`{name}` is a plain number whose name sounds like a loss, and nothing says which way"
            " is better: set `tuning.accuracy_criterion.higher_is_better` in the YAML"
        )
    return None


def _names(logged: Collection[str]) -> str:
    return quoted(sorted(logged))
