"""A program as functions of torch's own interpreter: no Python between its steps."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from lpot_lightning.errors import in_short
from lpot_lightning.quantization.graph.ops import FUNCTION, LAYER, call_layer, layer_of
from lpot_lightning.quantization.graph.tracing import privately
from lpot_lightning.quantization.kernels.bound import kernel_for
from lpot_lightning.quantization.kernels.layers import Int8Layer
from lpot_lightning.quantization.kernels.recorded import taking_packs
from lpot_lightning.quantization.op_clock import OFTEN
from lpot_lightning.quantization.program.draft import Drafted
from lpot_lightning.quantization.quantized_layer import CONVOLUTIONS

_LOG = logging.getLogger(__name__)
MOST = 16
"""Functions of one program."""
_PLAIN = {"torch", "torch.nn.functional", "torch._C._nn", "_operator", "torch.functional"}
_OF_VALUES = {"item", "tolist"}
_GEOMETRY = (
    "stride", "padding", "dilation", "groups", "padding_mode", "_reversed_padding_repeated_twice"
)  # fmt: skip
_RECORDING = Lock()
"""Warnings are held back meanwhile, which is for all threads."""


class Unscripted(Exception):
    """Plain arithmetic computes."""


class Scripted:
    """Computes a program, for inputs of shapes that come again as one function.

    Python between two kernels takes as long as a small one (torch 2.13). A function is recorded of
    a call as ``torch.jit.trace`` does it, is used for inputs of the same shapes and layouts alone,
    and only if it has given the same as Python. What cannot be recorded stays as it is.

    Args:
        draft: finished.
        python: computes it, and what no function was made for.
    """

    def __init__(self, draft: Drafted, python: Callable[..., Any]) -> None:
        self._draft, self._python = draft, python
        places = [node for node in draft.graph.nodes if node.op == "placeholder"]
        self._used = [number for number, node in enumerate(places) if node.users]
        # the shapes of what a module holds are guarded by who captured the graph
        self._varying = [number for number in self._used if places[number] not in draft.constants]
        self._made: dict[Any, _Recording | None] = {}
        self._calls: Counter[Any] = Counter()
        self._reason = unscripted(draft)
        if self._reason:
            _LOG.debug("Python computes: %s", self._reason)

    def __call__(self, *inputs: Any) -> Any:
        """Return what the program gives."""
        if self._reason:
            return self._python(*inputs)
        shapes = tuple([_shape(inputs[number]) for number in self._varying])
        made = self._made.get(shapes)
        if made is not None and made.is_of_now():
            try:
                return made(inputs)
            except RuntimeError as error:
                if KeyboardInterrupt.__name__ in str(error):  # Python inside of TorchScript had it
                    raise KeyboardInterrupt from error
                return self._python(*inputs)  # in words of its own, if it is an error there, too
        if made is not None:  # a layer of floats is another by now
            del self._made[shapes]
        if shapes in self._made or not self._is_often(shapes):
            return self._python(*inputs)
        found, self._made[shapes] = self._scripted(inputs)
        return found

    def _is_often(self, shapes: Any) -> bool:
        if len(self._made) >= MOST:
            return False
        self._calls[shapes] += 1
        if len(self._calls) > 4 * MOST:
            self._calls.clear()
        return self._calls[shapes] > OFTEN

    def _scripted(self, inputs: Sequence[Any]) -> tuple[Any, _Recording | None]:
        """Return what the program gives, and a function that gives it."""
        before = torch.get_rng_state()
        found = self._python(*inputs)
        if not torch.equal(torch.get_rng_state(), before):  # a further call is another draw
            return found, None
        if not _RECORDING.acquire(blocking=False):  # some other thread does
            return found, None
        try:
            made = _Recorder(self._draft).function(inputs, self._used)
            if _same(found, made(inputs)):
                return found, made
        # private calls of torch: one that is no more is no reason not to compute
        except (Unscripted, RuntimeError, TypeError, ValueError, AttributeError) as error:
            _LOG.debug("Python computes: %s", in_short(error))
        finally:
            _RECORDING.release()
        return found, None


def unscripted(draft: Drafted) -> str | None:
    """Return why Python is to compute ``draft``, ``None`` where it may be recorded."""
    for node in draft.graph.nodes:
        if node.op == "placeholder" and node in draft.written:
            return f"`{node}` is written to"
        if node.target in _OF_VALUES:
            return f"`{node}` is a number"
        if node.op == "call_function" and not _is_plain(node.target):
            return f"`{node}` is no function of tensors alone"
    return None


def _is_plain(function: Any) -> bool:
    name = getattr(function, "__name__", "_")
    module = getattr(function, "__module__", None)
    return function in (call_layer, FUNCTION) or (
        (module in _PLAIN or module is None) and not name.startswith("_")
    )


class _Recorder(fx.Interpreter):
    """Computes a program step by step, so that the packs of kernels and the weights of layers of
    floats are known, and a tracer sees what takes them."""

    def __init__(self, draft: Drafted) -> None:
        super().__init__(draft.module)
        self._packs: dict[str, Tensor] = {}
        self._held: list[_Held] = []
        self._records = False

    def function(self, inputs: Sequence[Any], used: Sequence[int]) -> _Recording:
        """Return what computes the program for those of ``inputs`` that it uses."""
        places = [one for one in used if isinstance(inputs[one], Tensor)]
        self.run(*inputs)
        names, count = list(self._packs), len(places)

        def call(*given: Any) -> Any:
            everything = list(inputs)  # numbers among them are those of all calls of the function
            for number, value in zip(places, given, strict=False):
                everything[number] = value
            self._packs = dict(zip(names, given[count:], strict=False))
            return self.run(*everything)

        self._records = True
        weights = [one.value for one in self._held if isinstance(one.value, Tensor)]
        held = [*self._packs.values(), *weights]
        given = *(inputs[number] for number in places), *held
        with privately(), warnings.catch_warnings():
            # sizes that Python looks at stay what they are: it is for inputs of these alone
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
            graph, _ = torch._C._create_graph_by_tracing(call, given, lambda _: "", True, False)
        torch._C._jit_pass_inline(graph)
        torch._C._jit_pass_lint(graph)
        made = torch._C._create_function_from_graph("__torch__.program", graph)
        return _Recording(made, places, held, self._held)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute a step."""
        step: Any = self.fetch_attr(target)
        if not isinstance(step, Int8Layer):
            return step.forward(*args)
        x, *other = args
        if self._records:
            kernel = kernel_for(step, other[0] if other else None, taking_packs)
            return kernel(x, self._packs[target], *other)
        if not step.has_kernel_for(x):
            raise Unscripted(f"plain arithmetic takes the place of `{target}`")
        self._packs[target] = step.pack_for(x)
        return step.forward(*args)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute a step; a layer of floats as what it calls or, if it has to be asked each time
        what that is, as an op that Python computes."""
        if target is not call_layer:
            return super().call_function(target, args, kwargs)
        x, name = args
        layer = _plain_layer(layer_of(name))
        if layer is None:
            return LAYER(x, name)
        if not self._records:
            self._held += [_Held(layer._parameters, name) for name in layer._parameters]
            self._held += [_Held(vars(layer), name) for name in _GEOMETRY if name in vars(layer)]
        return type(layer).forward(layer, x)


class _Held:
    """What a layer of floats computes with, where it has that."""

    def __init__(self, at: Mapping[str, Any], name: str) -> None:
        self._at, self._name, self.value = at, name, at[name]

    def is_there(self) -> bool:
        """Whether it is that one still."""
        return self._at.get(self._name) is self.value


def _plain_layer(forward: Any) -> nn.Module | None:
    """Return the layer of floats that ``forward`` computes for, if it is torch's own as it was."""
    layer: nn.Module = forward.layer
    plain = forward.int8 is None and type(layer) in (nn.Linear, *CONVOLUTIONS)
    return layer if plain and "weight" in layer._parameters and not layer._buffers else None


class _Recording:
    """A function with what it is given besides the inputs of a call.

    Args:
        function: of tensors.
        places: of those that it takes among the inputs.
        held: the others.
        layers: what layers of floats had then.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        places: Sequence[int],
        held: Sequence[Any],
        layers: Sequence[_Held],
    ) -> None:
        self._function, self._places = function, places
        self._held, self._layers = held, layers

    def is_of_now(self) -> bool:
        """Whether layers of floats have what they had then."""
        return all(one.is_there() for one in self._layers)

    def __call__(self, inputs: Sequence[Any]) -> Any:
        """Return what it computes, run as it was recorded: nothing is fused that rounds anew."""
        before = torch._C._get_graph_executor_optimize(False)
        try:
            return self._function(*[inputs[one] for one in self._places], *self._held)
        finally:
            torch._C._set_graph_executor_optimize(before)


def _shape(value: Any) -> Any:
    """Return what a function is made for: shape and layout, or a number itself."""
    return (value.shape, value.stride()) if isinstance(value, Tensor) else (type(value), value)


def _same(one: Any, other: Any) -> bool:
    pairs = list(zip(pytree.tree_leaves(one), pytree.tree_leaves(other), strict=True))
    return all(type(a) is type(b) and _equal(a, b) for a, b in pairs)


def _equal(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor):
        return bool(one == other)
    alike = _kind(one) == _kind(other)
    return alike and bool(((one == other) | ((one != one) & (other != other))).all())


def _kind(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.dtype, tensor.shape, tensor.stride(), tensor.requires_grad
