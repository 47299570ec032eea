"""A function that Dynamo captures under settings that hold while it captures, and only then."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch._dynamo as dynamo
from torch._dynamo.convert_frame import CatchErrorsWrapper

Settings = Callable[[], AbstractContextManager[None]]


def compiled(
    function: Callable[..., Any], backend: Callable[..., Any], settings: Settings
) -> Callable[..., Any]:
    """Return ``function``, captured when it is called, as ``torch.compile`` does.

    Args:
        function: plain, with code of its own.
        backend: makes of a graph what computes it.
        settings: entered when a call meets no graph that was made for it, and left once that is
            captured. Entered around each call they took a tenth of it, for small nets (torch 2.13).
    """
    context: Any = dynamo.optimize(backend=backend)
    if isinstance(getattr(context, "callback", None), CatchErrorsWrapper):  # else it is turned off
        context.callback = _Settled(context.callback, settings)
    found: Callable[..., Any] = context(function)
    return found


class _Settled(CatchErrorsWrapper):
    """What Dynamo calls for a frame that it has no graph for."""

    def __init__(self, inner: CatchErrorsWrapper, settings: Settings) -> None:
        super().__init__(inner._torchdynamo_orig_backend, inner.hooks)
        self._settings = settings

    def __call__(self, *frame: Any, **more: Any) -> Any:
        """Capture it."""
        with self._settings():
            return super().__call__(*frame, **more)
