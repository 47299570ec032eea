"""What a logged metric has seen so far, left as it is; in a checkpoint as plain values."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from lightning.pytorch.trainer.connectors.logger_connector.result import _ResultMetric
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_max, dim_zero_min, dim_zero_sum

from lpot_lightning.errors import ArtifactError, in_short
from lpot_lightning.tuning.screening import Partial, Point, Recorder, Unseen

MOST_NUMBERS = 10_000
"""In the state of a metric, beyond which copies of it would need too much memory and time."""
NOT_KEPT = "the checkpoint has no running values of the pass that the fp32 model was judged in"
_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "mean": torch.mean,
    "sum": torch.sum,
    "max": torch.max,
    "min": torch.min,
}
_COUNT = "_update_count"


@dataclass(frozen=True)
class Number:
    """A plain number that is logged at each batch, as Lightning reduces it.

    Args:
        name: what it is logged as.
        total: the sum of values times their weights for a mean, else the value.
        weight: of the samples so far.
        reduce: ``torch.mean``, ``sum``, ``max`` or ``min``.
    """

    name: str
    total: float
    weight: float
    reduce: Callable[..., Any]

    def value(self) -> float:
        """Return the number over all batches so far."""
        return self.total / self.weight if self.reduce is torch.mean else self.total

    def continued(self, before: Number, end: Number) -> float:
        """Return it with the rest of another pass."""
        if self.reduce in (torch.max, max):
            return max(self.total, end.total)
        if self.reduce in (torch.min, min):
            return min(self.total, end.total)
        total = self.total + (end.total - before.total)
        return total / end.weight if self.reduce is torch.mean else total


@dataclass(frozen=True)
class Held:
    """A copy of a torchmetrics object, which computes without other processes.

    Args:
        name: what it is logged as.
        metric: the copy.
        weight: how many samples it has seen.
    """

    name: str
    metric: Metric
    weight: float

    @classmethod
    def of(cls, name: str, metric: Metric, weight: float) -> Held:
        """Copy a metric as it is now; what it shares with the copy is never changed in place.

        Raises:
            Unseen: if it cannot be copied, is too large for that, or grows with the data: each look
                at it would cost as much as computing it does.
        """
        kept = {id(one): one for one in _never_changed(metric)}
        states = [getattr(one, name) for one in _nested(metric) for name in one._reductions]
        if any(isinstance(one, list) for one in states):
            raise Unseen(f"`{name}` keeps all that it has seen")
        if sum(one.numel() for one in states if isinstance(one, Tensor)) > MOST_NUMBERS:
            raise Unseen(f"the state of `{name}` is too large to be kept")
        try:
            copied = copy.deepcopy(metric, kept)
        except Exception as error:  # a class of the user's may hold anything
            raise Unseen(f"`{name}` cannot be copied ({in_short(error)})") from error
        for one in _nested(copied):
            one._to_sync, one._computed, one._is_synced = False, None, False
        return cls(name, copied, weight)

    def value(self) -> float:
        """Return the metric over all batches so far."""
        return self._value

    @cached_property
    def _value(self) -> float:
        return _computed(self.name, self.metric)

    def continued(self, before: Held, end: Held) -> float:
        """Return it with the rest of another pass."""
        mixed = Held.of(self.name, self.metric, end.weight).metric
        for others in zip(*map(_nested, (mixed, before.metric, end.metric)), strict=True):
            for state in others[0]._reductions:
                setattr(others[0], state, self._joined(state, *others))
        return _computed(self.name, mixed)

    def _joined(self, state: str, own: Metric, before: Metric, end: Metric) -> Any:
        mine, theirs, all_theirs = (getattr(one, state) for one in (own, before, end))
        reduction = own._reductions[state]
        if reduction is dim_zero_sum:
            return mine + (all_theirs - theirs)
        if reduction is dim_zero_max:
            return torch.maximum(mine, all_theirs)
        if reduction is dim_zero_min:
            return torch.minimum(mine, all_theirs)
        raise Unseen(f"the state `{state}` of `{self.name}` cannot be put together from parts")


def partial_of(name: str, item: _ResultMetric, samples: float) -> Number | Held:
    """Return what a logged metric has seen.

    Raises:
        Unseen: if it cannot be kept.
    """
    if not item.is_tensor:
        assert isinstance(item.value, Metric)
        return Held.of(name, item.value, samples)
    assert isinstance(item.value, Tensor)
    mean = item.meta.is_mean_reduction
    weight = float(item.cumulated_batch_size) if mean else samples
    return Number(name, float(item.value), weight, item.meta.reduce_fx)


def updates(item: _ResultMetric) -> int:
    """Return how often a logged metric was updated."""
    held = item if item.is_tensor else item.value
    assert isinstance(held, Metric)
    return sum(one.update_count for one in _nested(held))


def _nested(metric: Metric) -> Iterator[Metric]:
    return (one for one in metric.modules() if isinstance(one, Metric))


def _never_changed(metric: Metric) -> Iterator[Any]:
    """Yield the weights of a network inside, and what the states begin with."""
    yield from metric.parameters()
    for one in _nested(metric):
        yield from one._defaults.values()


def _computed(name: str, metric: Metric) -> float:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(metric.compute())
    except Exception as error:  # of parts, a class of the user's may compute nothing
        raise Unseen(f"`{name}` cannot be computed of a part ({in_short(error)})") from error


def curve_state(recorder: Recorder, path: str | None) -> dict[str, Any]:
    """Return what ``curve_from`` makes the same recorder of.

    Args:
        recorder: has seen a pass.
        path: of the torchmetrics object in its module; the values of one that is nowhere in it are
            left out.
    """
    end, fault = recorder.end, recorder.fault
    kind = None if end is None or fault is not None else _kind_of(end, path)
    if kind is None:
        return {"fault": fault or NOT_KEPT}
    points = [[n, one.checksum, _numbers_of(one.partial)] for n, one in recorder.points.items()]
    assert end is not None
    return {"fault": None, "kind": kind, "points": points, "end": _numbers_of(end)}


def curve_from(state: Mapping[str, Any], module: nn.Module) -> Recorder:
    """Return the recorder of which ``curve_state`` gave ``state``.

    Raises:
        ArtifactError: if it is damaged, or ``module`` has not its metric.
    """
    recorder = Recorder()
    recorder.looked = True
    try:
        recorder.fault = state["fault"]
        if recorder.fault is None:
            kind = state["kind"]
            recorder.end = _partial_from(kind, state["end"], module)
            recorder.points = dict(_point_from(kind, one, module) for one in state["points"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"the running values in the checkpoint are damaged: {error}") from error
    return recorder


def _point_from(kind: Any, given: Any, module: nn.Module) -> tuple[int, Point]:
    batches, checksum, numbers = given
    partial = _partial_from(kind, numbers, module)
    return int(batches), Point(partial, partial.value(), int(checksum))


def _kind_of(partial: Partial, path: str | None) -> dict[str, str] | None:
    if isinstance(partial, Number):
        reduce = getattr(partial.reduce, "__name__", "")
        return {"name": partial.name, "reduce": reduce} if reduce in _REDUCTIONS else None
    return None if path is None else {"name": partial.name, "metric": path}


def _numbers_of(partial: Partial) -> list[Any]:
    if isinstance(partial, Number):
        return [partial.weight, partial.total]
    assert isinstance(partial, Held)
    return [partial.weight, [_states_of(one) for one in _nested(partial.metric)]]


def _states_of(metric: Metric) -> dict[str, Any]:
    names = (*metric._reductions, _COUNT)
    return {name: _own(getattr(metric, name)) for name in names}


def _own(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _partial_from(kind: Mapping[str, str], numbers: Any, module: nn.Module) -> Number | Held:
    weight, found = float(numbers[0]), numbers[1]
    if "reduce" in kind:
        return Number(kind["name"], float(found), weight, _REDUCTIONS[kind["reduce"]])
    metric = copy.deepcopy(module.get_submodule(kind["metric"]))
    if not isinstance(metric, Metric):
        raise ArtifactError(f"`{kind['metric']}` is no metric any more")
    for one, states in zip(_nested(metric), found, strict=True):
        for name in (*one._reductions, _COUNT):
            setattr(one, name, states[name])
        one._computed = None
    return Held(kind["name"], metric, weight)
