"""Where a model comes from that is exported: what it is called with, and who judges it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Call:
    """What something is called with; its tensors are on the CPU, and nobody writes to them."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What is known of a model besides itself.

    Args:
        root: the path of what the validation step calls; ``None`` where nobody knows.
        calls: of that, with calibration data, the first one first.
        monitor: name of the metric that judged it; empty where nothing did.
        accuracy: what the int8 model had.
        judge: returns the metric of a model of the user's class that computes as this one does,
            over the whole validation data; ``None`` where there is nobody to ask.
    """

    root: str | None = None
    calls: tuple[Call, ...] = ()
    monitor: str = ""
    accuracy: float | None = None
    judge: Callable[[nn.Module], float] | None = None


UNKNOWN = Origin()
