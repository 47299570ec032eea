"""Graphs that compute for a module, each for the calls that it was made for."""

from __future__ import annotations

import inspect
import logging
import types
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch._dynamo as dynamo
import torch.fx.experimental._config as symbols
from torch import Tensor, fx, nn
from torch.nn.modules.module import _has_any_global_hook

from lpot_lightning.errors import in_short
from lpot_lightning.quantization.graph.breaks import RAISES, TURNED_OFF, Breaks
from lpot_lightning.quantization.graph.compiled import compiled
from lpot_lightning.quantization.graph.exporting import NotExported, refuse_export
from lpot_lightning.quantization.graph.guards import Outdated, leave_out, leave_out_settled
from lpot_lightning.quantization.graph.hooks import ModuleHooks
from lpot_lightning.quantization.graph.learned import Learned
from lpot_lightning.quantization.graph.own_code import forget, with_own_code
from lpot_lightning.quantization.graph.sources import constants
from lpot_lightning.quantization.graph.tracing import AskedSizes, is_tracing, paused, resumed

_LOG = logging.getLogger(__name__)
Lower = Callable[[fx.GraphModule, Sequence[Any]], Callable[..., Any]]
"""Makes of a graph, and of the first inputs to it, what computes it."""
MOST = 32
"""Graphs of one module; calls of more kinds go the module's own way.

A decoder is called for a prompt, for a token behind it, and for all of a text; each way has a graph
for a batch of one and one for any, the same for lengths, two more that showed what changes, and all
of them again in inference mode: GPT-2 came to 17 without that (torch 2.13, transformers 4.57).
"""
FEW = 2
"""Graphs of a module before numbers that it holds may be any."""
_FIXED: dict[str, Any] = {"specialize_float": True, "allow_unspec_int_on_nn_module": False}
_ANY_SIZE = {"use_duck_shape": False, "backed_size_oblivious": True}
"""In a trace numbers are those of the moment, and sizes are any: also one that is 1, or that of
another by chance."""
_NO_GRAPH = dynamo.exc.TorchDynamoException, dynamo.exc.FailOnRecompileLimitHit
_RAISED = "raised exception "
"""What an exception that Dynamo met in the user's code begins with (torch 2.13)."""
_OF_VALUES = {
    "item", "tolist", torch.ops.aten._assert_scalar.default,
    torch.sym_max, torch.sym_min, torch.sym_float, torch.sym_int, torch.sym_not, torch.sym_ite,
}  # fmt: skip


@dataclass
class Counts:
    """How calls of a module were computed.

    Args:
        calls: all of them.
        by_graph: those in which at least one graph computed; in the others each layer did alone.
    """

    calls: int = 0
    by_graph: int = 0

    @property
    def by_layers(self) -> int:
        """Calls that ran as they are written, with layers that are int8 by themselves."""
        return self.calls - self.by_graph


def counts_of(model: nn.Module) -> dict[str, Counts]:
    """Return how the calls of each module that graphs may compute for were computed so far.

    Example::

        sum(one.by_graph for one in counts_of(result.model).values())
    """
    found = {path: vars(one).get("forward") for path, one in model.named_modules()}
    return {path: one.counts for path, one in found.items() if isinstance(one, Captured)}


class Captured(NotExported):
    """Computes for the ``forward`` of a module, by graphs where it can.

    Python runs first: a call that no graph was made for is captured anew, by PyTorch's Dynamo, with
    the module's own ``forward`` and everything that it reads as the guard: arguments and their
    types and ranks, attributes, entries of dicts, globals, hooks, modes. What cannot be captured
    runs as it is written, and so do calls of more than ``MOST`` kinds. ``torch.jit.trace`` records
    the graph of a call, where it is one, and else the ``forward`` as it is written.

    A copy, one that was pickled too, captures anew.

    Args:
        module: whose layers may be int8 by themselves, and whose ``forward`` this object becomes.
        lower: see there.
        given: computes for the class's ``forward``, which it calls.

    Attributes:
        module: see above.
        given: see above.
        counts: how calls were computed so far.
        lowered: what computes its graphs, in the order of their capture.
        breaks: where they end before ``forward`` does, and why.

    Example::

        vars(module)["forward"] = Captured(module, lower)
    """

    def __init__(
        self, module: nn.Module, lower: Lower, given: Callable[..., Any] | None = None
    ) -> None:
        self.module, self._lower, self.given = module, lower, given
        forward = types.MethodType(type(module).forward, module)
        self.__signature__ = inspect.signature(forward)  # Lightning and others ask for it
        self.counts = Counts()
        self.lowered: list[Callable[..., Any]] = []
        self.breaks = Breaks()
        self._hits = 0
        self._compiled: dict[tuple[int, ...] | None, Callable[..., Any]] = {}
        self._written = self._own()
        self._whole = torch.compile(
            self._written, backend=_Backend(self, "_recorded"), dynamic=True, fullgraph=True
        )
        self._limit = _Limit(self._name)
        self._hooks: ModuleHooks | None = ModuleHooks(module)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what ``forward`` gives."""
        refuse_export()
        if is_tracing():
            return self._traced(*args, **kwargs)
        self.counts.calls += 1
        if self.module.training:
            Learned.note()
        if _has_any_global_hook():  # type: ignore[no-untyped-call]  # Dynamo looks at none
            return self._written(*args, **kwargs)
        before, hooks = self._hits, None if self._hooks is None else self._hooks.there()
        compute = self._compiled.get(hooks) or self._compiled_for(hooks)
        try:
            found = compute(*args, **kwargs)
        except (Outdated, dynamo.exc.TorchRuntimeError):  # that tells wrong shapes in its own words
            return self._written(*args, **kwargs)
        self.counts.by_graph += self._hits > before
        return found

    def _compiled_for(self, hooks: tuple[int, ...] | None) -> Callable[..., Any]:
        """Return what captures while there are these hooks, so that graphs of it need not ask.

        Sizes are symbols once they change: with all of them a net of four Swin blocks took 31 s to
        capture, and 0.6 s so (torch 2.13).
        """
        if len(self._compiled) >= MOST:
            return self._written
        backend, settings = _Backend(self, "_computed"), partial(_settings, weakref.ref(self))
        self._compiled[hooks] = compiled(self._own(), backend, settings)
        return self._compiled[hooks]

    def _own(self) -> types.FunctionType:
        """Return ``forward`` with code of its own, that Dynamo keeps nothing of beyond its life."""
        own = with_own_code(_forward_of(self.module, self.given))
        weakref.finalize(self, forget, own.__code__, own.__globals__)
        return own

    def find_break(self, *args: Any, **kwargs: Any) -> None:
        """Note why a call, which no graph computed, is none; the call is not computed."""
        if dynamo.config.disable:
            self.breaks.note(TURNED_OFF)
            return
        compute = torch.compile(self._own(), backend=_stopping, dynamic=True, fullgraph=True)
        try:
            with self._config, self._limit:
                compute(*args, **kwargs)
        except (_Stopped, dynamo.exc.TorchRuntimeError):
            return  # it can be captured, or the call is wrong
        except Exception as error:  # whatever Dynamo, or the user's code, says
            self.breaks.note(_said_by(error), getattr(error, "real_stack", None) or ())

    def _computed(self, graph: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        if self._hooks is not None and not self._hooks.are_all_watched():
            self._hooks = None  # the next call is captured again, with hooks among the guards
        self.breaks.note_graph(graph)
        try:
            compute = self._lower(graph, inputs)
        except Exception as error:  # a graph that nobody has thought of
            _LOG.warning("a graph of `%s` computes layer by layer: %s", self._name, in_short(error))
            compute = graph.forward
        leave_out(graph, getattr(compute, "looks_at", ()))
        leave_out_settled()
        self.lowered.append(compute)
        myself = weakref.ref(self)

        def counted(*given: Any) -> Any:
            _counted(myself)
            return compute(*given)

        return counted

    def _traced(self, *args: Any, **kwargs: Any) -> Any:
        """Return what ``forward`` gives, so that a trace holds it for inputs of any size."""
        before, any_size = self._hits, symbols.patch(**_ANY_SIZE)  # type: ignore[attr-defined]
        with (
            suppress(*_NO_GRAPH),
            paused(),
            _guards(True, **_FIXED, allow_rnn=self._knows_recurrent()),
            any_size,
        ):
            found = self._whole(*args, **kwargs)
            if self._hits > before:
                return found
        return self._written(*args, **kwargs)

    def _recorded(self, graph: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        """Return what computes a graph a first time for itself, and then for the trace."""
        if any(map(_is_of_values, graph.graph.nodes)):
            raise NotImplementedError("a trace holds no numbers that are computed")
        held, sizes = constants(graph, inputs), AskedSizes(graph, inputs)
        if sizes.is_of_one_sample(held):
            raise NotImplementedError("an op has made a graph of one sample of it")
        compute = self._lower(graph, inputs)
        places = [node for node in graph.graph.nodes if node.op == "placeholder"]
        own = [node.name in held for node in places]

        myself = weakref.ref(self)

        def recorded(*given: Any) -> Any:
            _counted(myself)
            compute(*map(_copied_unless, own, given))
            with resumed():
                return compute(*sizes.recorded(given))

        return recorded

    @property
    def _config(self) -> Any:
        """How numbers that modules hold are taken: as they are, which costs a call nothing, until
        some graphs show that they change, as in modules that count their calls."""
        numbers = _FIXED if len(self.lowered) < FEW else {"allow_unspec_int_on_nn_module": True}
        return _guards(self._hooks is None, **numbers, allow_rnn=self._knows_recurrent())

    def _knows_recurrent(self) -> bool:
        """Whether graphs may hold the recurrent layers: of those of torch Dynamo is not sure."""
        layers = (one for one in self.module.modules() if isinstance(one, nn.RNNBase))
        return all(isinstance(vars(one).get("forward"), NotExported) for one in layers)

    @property
    def _name(self) -> str:
        return type(self.module).__name__

    def __getstate__(self) -> dict[str, Any]:
        """Return what it was made of."""
        return {"module": self.module, "lower": self._lower, "given": self.given}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make it, of a module that may still be empty: it is held by that."""
        self.__init__(**state)  # type: ignore[misc]


class _Backend:
    """Lowers for a ``Captured`` that Dynamo, which keeps each backend for good, is not to keep."""

    def __init__(self, captured: Captured, way: str) -> None:
        self._captured, self._way = weakref.ref(captured), way

    def __call__(self, graph: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        """Return what computes ``graph``."""
        found: Callable[..., Any] = getattr(self._captured(), self._way)(graph, inputs)
        return found


class _Stopped(Exception):
    """A graph was captured, and that was all that was asked."""


def _stopping(graph: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
    """Return what computes nothing, for a graph that is only captured to see whether it can be."""
    del graph, inputs

    def stop(*_: Any) -> Any:
        raise _Stopped

    return stop


@contextmanager
def _settings(captured: weakref.ref[Captured]) -> Iterator[None]:
    """Let what is captured be captured as a ``Captured`` wants it; nobody holds that by this."""
    one = captured()
    assert one is not None  # it is being called
    with one._config, one._limit:
        yield


def _guards(of_hooks: bool, **numbers: bool) -> Any:
    """Return settings of what a graph is guarded by, for the thread that enters them."""
    hooks: dict[str, Any] = {"skip_nnmodule_hook_guards": not of_hooks, "recompile_limit": MOST}
    return dynamo.config.patch({**hooks, **numbers})


def _said_by(error: Exception) -> str:
    """Return why a capture ended: what Dynamo says, or what the user's own code raised."""
    met = error.__cause__
    if isinstance(met, dynamo.exc.ObservedException):  # by a `raise` that Dynamo followed
        return RAISES + (str(met).removeprefix(_RAISED) or type(met).__name__)
    return str(error) if isinstance(error, _NO_GRAPH) else RAISES + in_short(error)


def _counted(captured: weakref.ref[Captured]) -> None:
    one = captured()
    if one is not None:
        one._hits += 1


def _is_of_values(node: fx.Node) -> bool:
    """Whether Python computes with what a tracer passes as a tensor, and takes none."""
    return node.target in _OF_VALUES or getattr(node.target, "__module__", "") == "math"


def _copied_unless(held: bool, value: Any) -> Any:
    """Return an input, a tensor of the caller as a copy: a graph may write to it."""
    return value.clone() if isinstance(value, Tensor) and not held else value


class _Limit(logging.Filter):
    """Keeps back what Dynamo says of a module; that its graphs are full is said in our words."""

    _LOGGERS = tuple(
        logging.getLogger(f"torch._dynamo.{name}")
        for name in ("convert_frame", "symbolic_convert", "variables.tensor")
    )

    def __init__(self, module: str) -> None:
        super().__init__()
        self._module, self._is_told = module, False

    def filter(self, record: logging.LogRecord) -> bool:
        """Let errors through alone."""
        if record.levelno > logging.WARNING:
            return True
        if "recompile_limit" in record.getMessage() and not self._is_told:
            self._is_told = True
            _LOG.warning(
                "`%s` was called in more than %d ways: others are computed layer by layer",
                self._module,
                MOST,
            )
        return False

    def __enter__(self) -> None:
        """Listen."""
        for logger in self._LOGGERS:
            logger.addFilter(self)

    def __exit__(self, *_: object) -> None:
        """Listen no more."""
        for logger in self._LOGGERS:
            logger.removeFilter(self)


def _forward_of(module: nn.Module, given: Callable[..., Any] | None) -> types.FunctionType:
    """Return what calls the ``forward`` of the class of ``module``.

    Dynamo captures nothing whose code lies in torch's files, as that of ``nn.Sequential`` does.
    """
    forward = type(module).forward

    def call(*args: Any, **kwargs: Any) -> Any:
        if given is not None:
            return given(*args, **kwargs)
        return forward(module, *args, **kwargs)

    return call  # type: ignore[return-value]
