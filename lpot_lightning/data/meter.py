"""A metric of whatever kind, ready for one pass after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torchmetrics
from torch import Tensor
from torch.utils import _pytree as pytree

from lpot_lightning.data.metric import Metric
from lpot_lightning.errors import ConfError, in_short, quoted

ALLOWED = (
    "a subclass of `lpot_lightning.Metric`, a torchmetrics metric, or an object of either; or a"
    " class with `update(preds, labels)` and `result()`"
)
_PLAIN = (bool, int, float, str, type(None))


class Measuring(Protocol):
    """A metric that has seen nothing yet."""

    def update(self, preds: Any, labels: Any) -> None:
        """Take one batch."""

    def result(self) -> Any:
        """Return what all batches came to."""


@dataclass(frozen=True, kw_only=True)
class Meter:
    """How models are measured.

    Args:
        name: of the metric, for people and files.
        fresh: gives a metric that has seen nothing.
        higher_is_better: which way is better, ``None`` where the metric does not say it.
        compare_label: whether outputs are compared with labels, else with those of fp32.
        usually: which way is taken where nobody says it; ``None`` where that would be a guess.
        identity: what it is, for the history of a search.
    """

    name: str
    fresh: Callable[[], Measuring]
    higher_is_better: bool | None = None
    compare_label: bool = True
    usually: bool | None = True
    identity: tuple[Any, ...] = ()


def meter_of(name: object, metric: Any, options: Mapping[str, Any] | None = None) -> Meter:
    """Return a metric of the user's as a ``Meter``.

    Args:
        name: how it is called.
        metric: a class, or an object.
        options: arguments of the class.

    Raises:
        ConfError: if it is something else, or cannot be made.

    Example::

        meter = meter_of("accuracy", MulticlassAccuracy, {"num_classes": 10})
    """
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ConfError(f"the name of a metric is `{name!r}`; allowed: a text, such as `accuracy`")
    options = dict(options or {})
    metric = _with_base(metric)
    find = _made if isinstance(metric, type) else _object
    made = find(name, metric, options)
    if isinstance(made, torchmetrics.Metric):
        return _of_torchmetrics(name, made, options)
    if not isinstance(made, Metric):
        raise ConfError(f"the metric `{name}` is a `{type(made).__name__}`; allowed: {ALLOWED}")
    return _of_ours(name, made, metric, options)


def _with_base(metric: Any) -> Any:
    """Return a class that measures as one of ours: LPOT did not ask for a base class."""
    known = not isinstance(metric, type) or issubclass(metric, (Metric, torchmetrics.Metric))
    if known or not all(callable(getattr(metric, one, None)) for one in ("update", "result")):
        return metric
    names = {"__module__": metric.__module__, "__qualname__": metric.__qualname__}
    return type(metric.__name__, (metric, Metric), names)


def one_tensor(output: Any) -> Tensor:
    """Return the tensor that a metric is about: the only one, or ``logits`` of a mapping.

    Raises:
        ValueError: if there are several, or none.
    """
    logits = output.get("logits") if isinstance(output, Mapping) else None
    found = [logits] if isinstance(logits, Tensor) else tensors_of(output)
    if len(found) != 1:
        raise ValueError(
            f"the model gives {len(found)} tensors (a `{type(output).__name__}`), and this metric"
            " is about one: give a `Metric` of your own that takes the right one"
        )
    return found[0]


def tensors_of(output: Any) -> list[Tensor]:
    """Return all tensors of what a model gave, in order."""
    if isinstance(output, Mapping):
        return [one for value in output.values() for one in tensors_of(value)]
    return [one for one in pytree.tree_leaves(output) if isinstance(one, Tensor)]


class _Torchmetrics:
    """A torchmetrics object as what ``Meter.fresh`` gives."""

    def __init__(self, metric: torchmetrics.Metric) -> None:
        self._metric = metric
        metric.reset()

    def update(self, preds: Any, labels: Any) -> None:
        """Take one batch."""
        self._metric.update(one_tensor(preds), labels)

    def result(self) -> Any:
        """Return what all batches came to."""
        return self._metric.compute()


def _made(name: str, metric: type, options: dict[str, Any]) -> Any:
    if not issubclass(metric, (Metric, torchmetrics.Metric)):
        raise ConfError(f"the metric `{name}` is the class `{metric.__name__}`; allowed: {ALLOWED}")
    try:
        return metric(**options)
    except Exception as error:  # whatever the user's class says to its arguments
        raise ConfError(
            f"the metric `{name}` cannot be made by `{metric.__name__}` with"
            f" {quoted(options) or 'no arguments'} ({in_short(error)}): give the arguments it"
            f" needs, `metric({name!r}, {metric.__name__}, …)`, or an object"
        ) from error


def _object(name: str, metric: Any, options: dict[str, Any]) -> Any:
    if options:
        raise ConfError(
            f"the metric `{name}` is an object and no class, and there are arguments to make one"
            f" ({quoted(options)}): leave them out"
        )
    return metric


def _of_torchmetrics(name: str, made: torchmetrics.Metric, options: Mapping[str, Any]) -> Meter:
    own = made.clone().cpu()  # what the user's has seen stays
    return Meter(
        name=name,
        fresh=lambda: _Torchmetrics(own),
        higher_is_better=made.higher_is_better,
        usually=None,
        identity=_identity(made, options),
    )


def _of_ours(name: str, made: Metric, metric: Any, options: Mapping[str, Any]) -> Meter:
    kind = type(made)
    for method in ("update", "result"):
        if getattr(kind, method) is getattr(Metric, method):
            raise ConfError(f"`{kind.__name__}` has no `{method}`; write it: see `Metric`")
    way = made.higher_is_better
    if way is not None and not isinstance(way, bool):
        raise ConfError(
            f"`{kind.__name__}.higher_is_better` is `{way!r}`; allowed: `True`, `False`, `None`"
        )
    if isinstance(metric, type):
        return Meter(
            name=name,
            fresh=lambda: metric(**options),
            higher_is_better=way,
            compare_label=bool(made.compare_label),
            identity=_identity(made, options),
        )
    if kind.reset is Metric.reset:
        raise ConfError(
            f"`{kind.__name__}` has no `reset`, and the metric `{name}` is one object for all"
            " models: write it, or give the class"
        )

    def emptied() -> Metric:
        made.reset()
        return made

    identity = _identity(made, options)
    return Meter(
        name=name,
        fresh=emptied,
        higher_is_better=way,
        compare_label=bool(made.compare_label),
        identity=identity,
    )


def _identity(made: Any, options: Mapping[str, Any]) -> tuple[Any, ...]:
    kind = type(made)
    plain = {
        key: value
        for key, value in {**vars(made), **options}.items()
        if isinstance(value, _PLAIN) and not key.startswith("_")
    }
    return f"{kind.__module__}.{kind.__qualname__}", sorted(plain.items())
