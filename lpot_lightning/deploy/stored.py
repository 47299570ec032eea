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
    calls = stored_calls(configure.get("probe", {}), tensors)
    accuracy = configure.get("accuracy")
    told = accuracy if isinstance(accuracy, dict) else {}
    monitor, int8 = told.get("monitor"), told.get("int8")
    root = _root(calls, configure.get("op", {}), method)
    return Origin(
        root=root,
        calls=() if root is None else (Call(*calls[root]),),
        monitor=monitor if isinstance(monitor, str) else "",
        accuracy=int8 if isinstance(int8, float) else None,
    )


def _root(calls: Mapping[str, Any], ops: Mapping[str, Any], method: str | None) -> str | None:
    asked = None if method is None else method.removesuffix("forward").rstrip(".")
    if asked in calls:
        return asked
    return next(iter(roots_with(calls, ops)), None)
