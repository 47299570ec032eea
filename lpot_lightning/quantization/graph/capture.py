"""Graphs that compute for a module, each for the calls that it was made for."""

from __future__ import annotations

import copy
import itertools
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch._dynamo as dynamo
from torch import Tensor, fx, nn

Lower = Callable[[fx.GraphModule, Sequence[Any]], Callable[..., Any]]
"""Makes of a graph, and of the first inputs to it, what computes it."""
_NAMES = itertools.count(1)
MOST = 16
"""Graphs of one module; calls of more kinds go the module's own way."""


@dataclass
class Counts:
    """How calls of a module were computed.

    Args:
        calls: all of them.
        by_graph: those in which at least one graph computed.
    """

    calls: int = 0
    by_graph: int = 0


class Captured:
    """Computes for the ``forward`` of a module, by graphs where it can.

    Python runs first: a call that no graph was made for is captured anew, by PyTorch's Dynamo, with
    the module's own ``forward`` and everything that it reads as the guard: arguments and their
    types and ranks, attributes, entries of dicts, globals, hooks, modes. What cannot be captured
    runs as it is written, and so do calls of more than ``MOST`` kinds.

    Args:
        module: whose layers may be int8 by themselves, and whose ``forward`` this object becomes.
        lower: see there.
        forward: computes for ``forward`` in place of the class's own.

    Attributes:
        counts: how calls were computed so far.

    Example::

        vars(module)["forward"] = Captured(module, lower)
    """

    def __init__(
        self, module: nn.Module, lower: Lower, forward: Callable[..., Any] | None = None
    ) -> None:
        self._module, self._lower, self._forward = module, lower, forward
        self.counts = Counts()
        self._hits = 0
        # sizes are symbols from the first call on: a graph is for batches of any size
        own = _own_forward(module, forward)
        self._compiled = torch.compile(own, backend=self._computed, dynamic=True)
        # a patch is for the thread that enters it, and may be entered again inside (torch 2.13)
        self._config = dynamo.config.patch(
            skip_nnmodule_hook_guards=False,
            recompile_limit=MOST,
            allow_unspec_int_on_nn_module=True,  # modules that count their calls
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what ``forward`` gives."""
        self.counts.calls += 1
        before = self._hits
        with self._config:
            found = self._compiled(*args, **kwargs)
        self.counts.by_graph += self._hits > before
        return found

    def _computed(self, graph: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        compute = self._lower(graph, inputs)

        def counted(*given: Any) -> Any:
            self._hits += 1
            return compute(*given)

        return counted

    def __deepcopy__(self, memo: dict[int, Any]) -> Captured:
        """Return one for the copy of the module, which captures anew."""
        module, forward = copy.deepcopy((self._module, self._forward), memo)
        return Captured(module, self._lower, forward)


def _own_forward(module: nn.Module, given: Callable[..., Any] | None) -> Callable[..., Any]:
    """Return what calls the ``forward`` of the class of ``module``, with code of its own.

    Dynamo captures nothing whose code lies in torch's files, as that of ``nn.Sequential`` does. And
    it counts the graphs of a code object, whichever module it runs for: a few models of one class
    would use up each other's.
    """
    forward = type(module).forward

    def call(*args: Any, **kwargs: Any) -> Any:
        if given is not None:
            return given(*args, **kwargs)
        return forward(module, *args, **kwargs)

    name = f"call_{next(_NAMES)}"  # code objects that are equal are one to Dynamo
    code = call.__code__.replace(co_name=name, co_qualname=name)
    return types.FunctionType(code, call.__globals__, name, None, call.__closure__)


def constants(graph: fx.GraphModule, inputs: Sequence[Any]) -> dict[fx.Node, Tensor]:
    """Return the tensors that belong to modules, by the placeholder that stands for each."""
    places = [node for node in graph.graph.nodes if node.op == "placeholder"]
    return {
        node: value
        for node, value in zip(places, inputs, strict=True)
        if isinstance(value, Tensor) and _is_held(node)
    }


def _is_held(node: fx.Node) -> bool:
    """Whether a module holds the tensor as a parameter or buffer, by where Dynamo found it."""
    source = _source(node)
    return "._parameters[" in source or "._buffers[" in source


def is_of_module(node: fx.Node) -> bool:
    """Whether an input of a graph is an attribute of a module, or of something that one has."""
    source = _source(node)
    return source.startswith(("L['self'].", "L['module'].")) or "._modules[" in source


def _source(node: fx.Node) -> str:
    found = node.meta.get("grapharg")
    return "" if found is None else str(found.source.name)
