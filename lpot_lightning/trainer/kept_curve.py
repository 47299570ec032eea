"""The running values of a pass as plain values, for a checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from lpot_lightning.errors import ArtifactError
from lpot_lightning.trainer.partial_metric import Held, Number
from lpot_lightning.tuning.screening import Partial, Point, Recorder

NOT_KEPT = "the checkpoint has no running values of the pass that the fp32 model was judged in"
_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "mean": torch.mean,
    "sum": torch.sum,
    "max": torch.max,
    "min": torch.min,
}
_COUNT = "_update_count"


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
    return [partial.weight, [_states_of(one) for one in _metrics_in(partial.metric)]]


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
    for one, states in zip(_metrics_in(metric), found, strict=True):
        for name in (*one._reductions, _COUNT):
            setattr(one, name, states[name])
        one._computed = None
    return Held(kind["name"], metric, weight)


def _metrics_in(metric: nn.Module) -> list[Metric]:
    return [one for one in metric.modules() if isinstance(one, Metric)]
