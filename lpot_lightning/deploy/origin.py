"""Where a model comes from that is exported: what it is called with, and who judges it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from lpot_lightning.data.batches import Call as Call


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What is known of a model besides itself.

    Args:
        root: the path of what the validation step calls; ``None`` where nobody knows.
        calls: of that, with calibration data, the first one first; their tensors are on the CPU,
            and nobody writes to them.
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

    def __getstate__(self) -> dict[str, Any]:
        """Let a copy, or a pickle, do without the judge, which may be a trainer or a function."""
        return {**vars(self), "judge": None}


UNKNOWN = Origin()
