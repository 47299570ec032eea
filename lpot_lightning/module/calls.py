"""Who calls which module, and with what: one dry run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import thread_time
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lpot_lightning.module.fast_path import ways_around
from lpot_lightning.module.function_calls import FunctionCall, FunctionCalls
from lpot_lightning.module.placeholder import asks_for_values
from lpot_lightning.module.plain_tree import NotPlain, to_plain

_SIGNATURES = 32


@dataclass(kw_only=True)
class ModuleCalls:
    """All calls of one module in a dry run.

    Args:
        args: of the first call; so are ``kwargs``.
        count: how many calls there were.
        above: of every call, which modules were being called around it.
        read: names of its parameters whose values code outside of its own ``forward`` used.
        seconds: of the processor, of all calls: what others do on a busy machine is not in them.
        functions: what its ``forward`` calls that is no module.
        signatures: of the calls from outside of all modules, each that differs once.
        derived: whether gradients went through what it returned.
    """

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    count: int = 0
    above: list[frozenset[int]] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    seconds: float = 0.0
    functions: Mapping[tuple[str, bool, int], FunctionCall] = field(default_factory=dict)
    signatures: list[dict[str, Any]] = field(default_factory=list)
    derived: bool = False

    def watch_gradients(self, output: Any) -> None:
        """Note it when gradients go through an output: most are only able to have some."""
        for value in pytree.tree_leaves(output):
            if isinstance(value, Tensor) and value.requires_grad:
                value.register_hook(self._note_gradient)  # type: ignore[no-untyped-call]

    def _note_gradient(self, _: Tensor) -> None:
        self.derived = True


@contextmanager
def recorded(model: nn.Module) -> Iterator[dict[int, ModuleCalls]]:
    """Record the calls of all modules of ``model`` inside the ``with``, by ``id`` of the module.

    Modules that were not called are there too, if their parameters were used. A call is one of
    ``forward``, whether it came as ``module(x)`` or as ``module.forward(x)``. Transformers of torch
    are kept from their fused kernels.

    Example::

        with recorded(model) as calls:
            model(images)
        calls[id(model.net.head)].args
    """
    run = _DryRun(model)
    with ExitStack() as undo:
        for module in list(model.modules()):
            if not isinstance(module, torch.jit.ScriptModule):
                undo.enter_context(_held(module, ways_around(module)))
                undo.enter_context(_held(module, run.watched(module)))
        undo.enter_context(run.functions)
        yield run.calls


class _DryRun:
    """What is known of a dry run while it goes on."""

    def __init__(self, model: nn.Module) -> None:
        self.calls: dict[int, ModuleCalls] = {}
        self._running: list[int] = []
        held = [*model.parameters(), *model.buffers()]
        self.functions = FunctionCalls(self._running, held, _real_ones)

    def watched(self, module: nn.Module) -> dict[str, Any]:
        """Return what stands in ``module``'s own attributes while it is watched."""
        return {
            "forward": self._noted(module, module.forward),
            "_parameters": _WatchedTensors(module._parameters, partial(self._reader, module)),
        }

    def _noted(self, module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            found = self.calls.setdefault(id(module), ModuleCalls())
            if not found.count:
                found.args, found.kwargs = args, kwargs
            found.count += 1
            found.above.append(frozenset(self._running))
            if not self._running:
                _note_signature(found.signatures, args, kwargs)
            found.functions = self.functions.found[id(module)]
            self._running.append(id(module))
            self.functions.called()
            started = thread_time()
            try:
                output = forward(*args, **kwargs)
                found.watch_gradients(output)
                return output
            finally:
                found.seconds += thread_time() - started
                self.functions.returned()
                self._running.pop()

        return noted

    def _reader(self, module: nn.Module, name: str) -> Callable[[], None] | None:
        """Return what notes that values of a parameter are used, ``None`` for its own layer."""
        if self._running and self._running[-1] == id(module):
            return None
        return lambda: self.calls.setdefault(id(module), ModuleCalls()).read.add(name)


def _note_signature(
    known: list[dict[str, Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    found = signature_of(args, kwargs)
    if found not in known and len(known) < _SIGNATURES:
        known.append(found)


def signature_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a module is called, in plain values: types and ranks of tensors, and the others.

    Example::

        signature_of((torch.ones(2, 3),), {"mask": None})
        # {"args": [{"tensor": {"dtype": "float32", "rank": 2}}], "kwargs": {"mask": None}}
    """
    return {
        "args": [_signed(one) for one in args],
        "kwargs": {name: _signed(one) for name, one in kwargs.items()},
    }


def _signed(value: object) -> Any:
    try:
        return to_plain(value, _kind)
    except NotPlain:
        return {"object": type(value).__name__}


def _kind(value: Tensor) -> dict[str, Any]:
    return {"dtype": str(value.dtype).removeprefix("torch."), "rank": value.dim()}


class _WatchedTensors(dict[str, Any]):
    """The parameters of a module; ``module.weight`` and ``parameters()`` look them up here."""

    # A hook sees calls only, and `F.linear(x, self.emb.weight)` or a penalty on `parameters()` is
    # none: an int8 layer has no such tensor, and what reads it has to be found before.

    def __init__(
        self, tensors: Mapping[str, Any], reader: Callable[[str], Callable[[], None] | None]
    ) -> None:
        super().__init__(tensors)
        self._reader = reader

    def __getitem__(self, name: str) -> Any:
        return self._watched(name, super().__getitem__(name))

    def items(self) -> Any:
        return {name: self._watched(name, value) for name, value in super().items()}.items()

    def _watched(self, name: str, value: Any) -> Any:
        note = self._reader(name)
        if note is None or not isinstance(value, Tensor):
            return value
        return _WatchedTensor.of(value, note)


class _WatchedTensor(Tensor):
    """A parameter in the hands of others: it notes when its values are used."""

    _real: Tensor
    _note: Callable[[], None]
    _is_param = True  # what makes it an `nn.Parameter` to `isinstance`

    @staticmethod
    def of(real: Tensor, note: Callable[[], None]) -> _WatchedTensor:
        with torch._C.DisableTorchFunctionSubclass():
            made = real.detach().as_subclass(_WatchedTensor)
        made._real, made._note = real, note
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        noted = asks_for_values(func)

        def real(value: Any) -> Any:
            if not isinstance(value, cls):
                return value
            if noted:
                value._note()
            return value._real

        args, kwargs = pytree.tree_map(real, (args, kwargs or {}))
        return func(*args, **kwargs)


def _real_ones(given: Any) -> Any:
    return pytree.tree_map(lambda one: getattr(one, "_real", one), given)


@contextmanager
def _held(module: nn.Module, attributes: Mapping[str, Any]) -> Iterator[None]:
    """Let ``module`` itself have ``attributes`` for the time of the ``with``."""
    own = vars(module)
    before = {name: own[name] for name in attributes if name in own}
    own.update(attributes)
    try:
        yield
    finally:
        for name in attributes:
            del own[name]
        own.update(before)


def computes_otherwise(module: nn.Module) -> bool:
    """Whether something else than the ``forward`` of its class computes for ``module``.

    DDP leaves a module with that very ``forward`` as an attribute of its own.
    """
    own = vars(module).get("forward")
    of_class = inspect.getattr_static(type(module), "forward", None)
    return own is not None and getattr(own, "__func__", own) is not of_class


def roots_of(model: nn.Module, calls: Mapping[int, ModuleCalls]) -> Iterator[str]:
    """Yield the paths of the modules that are called from outside of all others."""
    for path, module in model.named_modules():
        seen = calls.get(id(module))
        if seen is not None and seen.count and any(not above for above in seen.above):
            yield path
