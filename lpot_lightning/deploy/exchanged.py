"""A model in which a file computes: what judges models judges the file."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lpot_lightning.deploy.origin import Call
from lpot_lightning.deploy.running.runtime import Runtime
from lpot_lightning.deploy.whole_graph import WholeGraph
from lpot_lightning.errors import ExportError
from lpot_lightning.module.copying import copy_of


class ByFile:
    """What a method is for which a file computes.

    Args:
        whole: what the file holds.
        runtime: that runs it.

    Attributes:
        count: of calls.
    """

    def __init__(self, whole: WholeGraph, runtime: Runtime) -> None:
        self._whole, self._runtime = whole, runtime
        self.count = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the file gives, in the form in which the method does."""
        self.count += 1
        tensors = self._whole.signature.tensors_of(Call(args, kwargs))
        with torch.no_grad():
            found = self._runtime(*self._whole.fed(tensors))
        return self._whole.given.result_of(found)

    def check_called(self) -> None:
        """Raise an ``ExportError`` if it was not: what was judged is then not the file."""
        if not self.count:
            raise ExportError(
                f"`judge` takes the metric of the validation step, which does not call"
                f" `{self._whole.signature.method}`: export what it calls, by `method`"
            )


def with_file(model: nn.Module, method: str, by_file: ByFile) -> nn.Module:
    """Return a copy of ``model`` in which ``by_file`` computes what ``method`` names.

    Args:
        model: left as it is; the copy shares its tensors.
        method: see ``ExportOptions``.
        by_file: see there.
    """
    copied = copy_of(model, share_tensors=True)
    modules = dict(copied.named_modules())
    where, _, last = ("", "", "forward") if not method else method.rpartition(".")
    owner, name = (modules[method], "forward") if method in modules else (modules[where], last)
    owner.__dict__[name] = by_file
    return copied
