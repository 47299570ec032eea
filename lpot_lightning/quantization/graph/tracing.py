"""While `torch.jit.trace` records: a pause, and what it may record of a graph."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx

is_tracing: Callable[[], bool] = torch._C._is_tracing
"""Whether a trace is being made in this thread; ``torch.jit.is_tracing`` asks more, each time."""
_LOCAL = threading.local()


def is_followed() -> bool:
    """Whether a mode or a transform sees each op of this thread, and may give tensors of its own.

    ``make_fx``, ``FakeTensorMode``, ``FlopCounterMode`` and ``vmap`` are such.
    """
    in_mode: int = torch._C._len_torch_dispatch_stack()
    return in_mode > 0 or torch._C._functorch.peek_interpreter_stack() is not None


@contextmanager
def paused() -> Iterator[None]:
    """Let nothing be recorded in this thread."""
    state = torch._C._get_tracing_state()
    if state is None:
        yield
        return
    before, _LOCAL.state = getattr(_LOCAL, "state", None), state
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch._C._set_tracing_state(state)  # type: ignore[attr-defined]
        _LOCAL.state = before


@contextmanager
def resumed() -> Iterator[None]:
    """Let all be recorded again, inside of a pause."""
    torch._C._set_tracing_state(_LOCAL.state)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch._C._set_tracing_state(None)  # type: ignore[attr-defined]


@contextmanager
def privately() -> Iterator[None]:
    """Let what is recorded in this thread be for this process: it may hold ops of our own."""
    _LOCAL.is_private = True
    try:
        yield
    finally:
        _LOCAL.is_private = False


def is_private() -> bool:
    """Whether what is being recorded, if something is, is for this process alone."""
    return getattr(_LOCAL, "is_private", False)


def comes_of_inputs(tensor: Tensor) -> bool:
    """Whether what is recorded so far makes ``tensor`` of what the trace will be called with."""
    seen: set[str] = set()
    waiting = [torch._C._get_value_trace(tensor)]  # type: ignore[attr-defined]
    while waiting:
        value = waiting.pop()
        if value.debugName() in seen:
            continue
        seen.add(value.debugName())
        if value.node().kind() == "prim::Param" and value.type().kind() != "ClassType":
            return True
        waiting += value.node().inputs()
    return False


class AskedSizes:
    """Where the sizes are that a graph takes as numbers: a trace is to ask its inputs for them.

    Args:
        graph: as it was captured.
        inputs: of its first call.
    """

    def __init__(self, graph: fx.GraphModule, inputs: Sequence[Any]) -> None:
        self._shapes = list(_shapes(graph))
        known = {
            str(size): (number, dim)
            for number, (_, shape) in reversed(list(enumerate(self._shapes)))
            for dim, size in reversed(list(enumerate(shape)))
        }
        self._asked = {
            number: known[str(value)]
            for number, value in enumerate(inputs)
            if isinstance(value, torch.SymInt) and str(value) in known
        }

    def is_of_one_sample(self, held: Collection[str]) -> bool:
        """Whether an input that is not ``held`` by a module can be of one sample only."""
        first = [shape[0] for name, shape in self._shapes if shape and name not in held]
        return any(str(one) == "1" or f"Eq({one}, 1)" in _guards(one) for one in first)

    def recorded(self, inputs: Sequence[Any]) -> list[Any]:
        """Return ``inputs``, sizes among them as what a tracer follows."""
        given = list(inputs)
        for number, (source, dim) in self._asked.items():
            given[number] = given[source].size(dim)
        return given


def _shapes(graph: fx.GraphModule) -> Iterator[tuple[str, Sequence[Any]]]:
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            value = node.meta.get("example_value")
            yield node.name, value.shape if isinstance(value, Tensor) else ()


def _guards(size: Any) -> set[str]:
    """Return what was found out about sizes when the graph was captured."""
    if not isinstance(size, torch.SymInt):
        return set()
    return {str(guard.expr) for guard in size.node.shape_env.guards}
