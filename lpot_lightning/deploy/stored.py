"""What the files of a workspace know of the calls of their model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lpot_lightning.artifacts.probe import stored_calls
from lpot_lightning.deploy.origin import Call, Origin
from lpot_lightning.deploy.recording import roots_with


def origin_of(
    configure: Mapping[str, Any], tensors: Mapping[str, Tensor], method: str | None = None
) -> Origin:
    """Return the origin that the files tell of: one call, and what the run has judged.

    Args:
        configure: the tune config, checked.
        tensors: that came with it.
        method: what is to be exported; where a call of that is stored, it is the one.

    Raises:
        ArtifactError: if a stored call is damaged.
    """
    probe = configure.get("probe", {})
    calls = stored_calls(probe, tensors)
    accuracy = configure.get("accuracy")
    told = accuracy if isinstance(accuracy, dict) else {}
    monitor, int8 = told.get("monitor"), told.get("int8")
    roots = _roots(probe, configure.get("op", {}), method)
    root = next((one for one in roots if one in calls), None)
    return Origin(
        root=root,
        calls=() if root is None else (Call(*calls[root]),),
        monitor=monitor if isinstance(monitor, str) else "",
        accuracy=int8 if isinstance(int8, float) else None,
        unknown=next((str(probe[one]) for one in roots if root is None), ""),
    )


def _roots(probe: Mapping[str, Any], ops: Mapping[str, Any], method: str | None) -> tuple[str, ...]:
    """Return what may be exported, the one that is asked for first; a metric holds no op.

    Where nothing tells of ops, as in the files of a pruning, it is the model itself if that is
    called.
    """
    asked = None if method is None else method.removesuffix("forward").rstrip(".")
    if asked is not None and isinstance(probe.get(asked), Mapping):
        return (asked,)
    return roots_with(probe, ops) if ops or "" not in probe else ("",)
