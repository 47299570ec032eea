"""Torch without what it does at each capture and each export for nobody here."""

from __future__ import annotations

import functools
import logging
from types import SimpleNamespace
from typing import Any


def spare(*, ahead: bool = False) -> None:
    """Leave out of this process what changes no result; the times are those of torch 2.13.

    Args:
        ahead: do at once what is done once, for all that this process will fork.
    """
    import torch._dynamo.guards as guards

    # 16 to 20 ms a capture, a fifth of that of a small net: caches are emptied to time the guards
    guards.profile_guard_manager = lambda *_: 0.0  # type: ignore[assignment]
    _log_no_traces()
    _read_ops_once(ahead)


def _log_no_traces() -> None:
    """Let no graph be written out for a log: pytest listens to all that hand nothing on."""
    log = logging.getLogger("torch.__trace")
    log.propagate = True
    for handler in log.handlers[:]:
        log.removeHandler(handler)


def _read_ops_once(ahead: bool) -> None:
    """Parse the source of 557 functions for the first ONNX file alone: 0.47 s for each."""
    from torch.onnx._internal.exporter import _registration

    lazy: Any = _registration.onnxscript_apis
    read = functools.cache(lambda: tuple(lazy.get_torchlib_ops()))
    _registration.onnxscript_apis = SimpleNamespace(get_torchlib_ops=read)  # type: ignore
    if ahead:
        read()
