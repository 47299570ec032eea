"""Where a model comes from that is exported: what it is called with, and who judges it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lpot_lightning.data.batches import Call as Call
from lpot_lightning.deploy.options import ExportOptions
from lpot_lightning.errors import ExportError


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What is known of a model besides itself.

    Args:
        root: the path of what the validation step calls; ``None`` where nobody knows.
        calls: of that, with calibration data, the first one first; their tensors are on the CPU,
            and nobody writes to them.
        monitor: name of the metric that judged it; empty where nothing did.
        accuracy: what the int8 model had.
        unknown: why nobody knows a call; empty where there is one, or no reason is known.
        judge: returns the metric of a model of the user's class that computes as this one does,
            over the whole validation data; ``None`` where there is nobody to ask.
    """

    root: str | None = None
    calls: tuple[Call, ...] = ()
    monitor: str = ""
    accuracy: float | None = None
    unknown: str = ""
    judge: Callable[[nn.Module], float] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Let a copy, or a pickle, do without the judge, which may be a trainer or a function."""
        return {**vars(self), "judge": None}


UNKNOWN = Origin()


def check_origin(model: nn.Module, options: ExportOptions, origin: Origin) -> None:
    """Raise an ``ExportError`` if there is nothing to call ``model`` with, or nobody to ask."""
    if isinstance(model, torch.jit.ScriptModule):
        raise ExportError(
            "what is exported is TorchScript already: give the module that it was made of"
        )
    if options.example is None and not origin.calls:
        why = f" (the files do not hold it: {origin.unknown})" if origin.unknown else ""
        raise ExportError(
            f"nobody knows what `{type(model).__name__}` is called with{why}: give an `example`, a"
            " tensor, a tuple of arguments or a mapping of keyword arguments"
        )
    if options.judge and origin.judge is None:
        raise ExportError(
            "`judge` takes the metric of your own validation, and there is nobody to ask for it:"
            " use an `ExportCallback` in the fit, or `result.export(…, judge=True)` in the program"
            " that has quantized the model; to the `export` of a workspace give a `trainer`"
        )
