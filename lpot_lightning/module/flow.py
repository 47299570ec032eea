"""Where the outputs of frozen modules go: on into what trains, or only into a comparison."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import reduce
from itertools import chain
from operator import or_
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

Trains = Callable[[nn.Parameter], bool]
_ELEMENTWISE = frozenset(
    (
        "add", "radd", "iadd", "sub", "rsub", "isub", "mul", "rmul", "imul", "div", "truediv",
        "rtruediv", "itruediv", "where", "masked_fill", "lerp", "maximum", "minimum", "clamp",
    )
)  # fmt: skip
_AUGMENTED = ("add", "sub", "mul", "div", "truediv", "floordiv", "pow", "mod", "matmul")
_CHOOSE = frozenset(("getitem", "index_select", "gather", "take", "take_along_dim", "select"))


class _Made(NamedTuple):
    """What a tensor is made of.

    Args:
        of: the frozen layers whose outputs, or weights, are in it, a bit for each.
        trains: whether a parameter that trains is in it.
        weight: whether it comes of parameters and buffers alone, of no data.
        new: whether it comes of nothing at all, as ``torch.randn(3)`` does.
    """

    of: int = 0
    trains: bool = False
    weight: bool = False
    new: bool = False


_DATA, _NEW = _Made(), _Made(weight=True, new=True)


class Flow:
    """Which frozen layers of a model feed what trains, by what ran while it looked.

    A layer is frozen if none of its parameters trains. It *feeds* what trains where its output,
    whatever is done with it on the way, is given to a parameter of a module that trains, as
    ``self.head(self.backbone(x))`` does; and where it is a part of a module that trains, so that
    both are in one output of that: the base of a LoRA layer, the last layer of a net. All others
    are only compared with, logged, or not called: a teacher, a net that a loss looks through.

    Followed are functions of torch, views, indexing, what is written in place, and modules that
    compute out of its sight (``torch.autograd.Function``). Not followed is what leaves tensors
    (``.item()``, ``.numpy()``), what a mask or an index chooses, and a single number, as a loss is.

    Args:
        model: its own parameters count where they have more than one dimension; else it is the step
            that all is about, and no module that trains.
        trains: whether a parameter does; by default what has ``requires_grad`` when this is made.

    Attributes:
        called: paths of all modules that were called.

    Example::

        flow = Flow(lit)
        with flow.looking():
            lit.training_step(batch, 0)
        roles(lit, flow.feeding, flow.called)  # {"backbone": True, "teacher": False}
    """

    def __init__(self, model: nn.Module, trains: Trains = lambda one: one.requires_grad) -> None:
        self.called: set[str] = set()
        self._paths = {id(one): path for path, one in model.named_modules()}
        self._feeding = 0
        self._living = {id(one) for one in model.modules() if _any(trains, one.parameters())}
        self._held: dict[int, tuple[Tensor, _Made]] = {}
        self._asks_of: set[int] = set()  # the parameters whose layers are fed
        self._owners: dict[int, set[int]] = {}
        frozen = [
            path for path, one in model.named_modules() if path and id(one) not in self._living
        ]
        self._bits = {path: 1 << at for at, path in enumerate(frozen)}
        inside = self._bits_inside()
        self._inside = {id(one): inside[path] for path, one in model.named_modules()}
        for module in model.modules():
            self._take_in(module, trains, is_model=module is model)
        self._made: Any = WeakTensorKeyDictionary()
        self._running: list[nn.Module] = []

    def _take_in(self, module: nn.Module, trains: Trains, *, is_model: bool) -> None:
        path = self._paths[id(module)]
        frozen = self._bits.get(path, 0)
        for one in chain(module._parameters.values(), module._buffers.values()):
            if one is None:
                continue
            does = isinstance(one, nn.Parameter) and trains(one)
            known = self._held.get(id(one), (one, _DATA))[1]
            self._held[id(one)] = one, _Made(known.of | frozen, does or known.trains, weight=True)
            self._owners.setdefault(id(one), set()).add(id(module))
            if does and one.numel() > 1 and (not is_model or one.dim() > 1):
                self._asks_of.add(id(one))

    def _bits_inside(self) -> Counter[str]:
        """Return the bits of all layers in each module."""
        found = Counter(self._bits)
        for path, bit in self._bits.items():
            for at, letter in enumerate(path):
                if letter == ".":
                    found[path[:at]] |= bit
            found[""] |= bit
        return found

    @property
    def feeding(self) -> set[str]:
        """Paths of the frozen layers that were found to feed what trains."""
        return {path for path, bit in self._bits.items() if bit & self._feeding}

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Follow all that runs inside the ``with``; what ``torch.compile`` made runs uncompiled."""
        with ExitStack() as undo:
            if "torch._dynamo" in sys.modules:  # a stance costs seconds of import, else
                undo.enter_context(torch.compiler.set_stance("force_eager"))
                undo.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", "Using `torch.compile")  # a hook fires twice
            for hook in (
                register_module_forward_pre_hook(self._before),
                register_module_forward_hook(self._after),  # `with_kwargs` leaves an entry behind
            ):
                undo.callback(hook.remove)
            undo.enter_context(_Functions(self._note))
            undo.callback(self._running.clear)
            undo.callback(self._made.clear)
            yield

    def _before(self, module: nn.Module, args: Any) -> None:
        self._running.append(module)
        if id(module) in self._paths:
            self.called.add(self._paths[id(module)])

    def _after(self, module: nn.Module, args: Any, found: Any) -> None:
        while module in self._running and self._running.pop() is not module:
            pass  # one that raised, and whose error was caught, has not ended
        if id(module) not in self._paths:
            return
        if not module._modules:
            self._through(module, args, found)
        if id(module) in self._living:
            self._keep_parts(self._inside[id(module)], found)

    def _through(self, layer: nn.Module, given: Any, found: Any) -> None:
        """Take the output of a layer to be made of its inputs, whatever computed it."""
        own = [one for one in chain(layer._parameters.values(), layer._buffers.values())
               if one is not None]  # fmt: skip
        fed = [self._of(one) for one in _tensors(given)]
        made = _joined([*fed, *(self._weight(one, layer) for one in own)])
        if any(id(one) in self._asks_of for one in own):
            self._feeding |= _joined(fed).of
        for one in _tensors(found):
            known = self._made.get(one, _DATA)
            self._mark(one, _Made(made.of | known.of, made.trains or known.trains))

    def _keep_parts(self, inside: int, found: Any) -> None:
        """Take in what is in one output of a module with what trains there: it is a part of it."""
        for one in _tensors(found):
            made = self._of(one)
            if made.trains and not made.weight:
                self._feeding |= made.of & inside

    def _note(self, func: Any, given: Any, found: Any) -> None:
        """Take in that ``func`` made ``found`` of what it was given."""
        name, tensors = _name(func), _tensors(given)
        made = [self._weight(one, self._innermost) for one in tensors]
        if name not in _ELEMENTWISE and any(not one.new and one.weight for one in made):
            made = [_DATA if one.new else one for one in made]
        data = [one for one in made if not one.weight]
        if data and any(self._asks(one, kind) for one, kind in zip(tensors, made, strict=True)):
            self._feeding |= _joined(data).of
        if name in _CHOOSE and tensors and (made[0].new or not made[0].weight):
            made = made[:1]
        what = _NEW if not tensors or _has_no_values(name) else _joined(made)
        for one in _tensors(found):
            self._mark(one, what)
        if _writes(func) and tensors:
            self._write(tensors[0], what)

    @property
    def _innermost(self) -> nn.Module | None:
        return self._running[-1] if self._running else None

    def _asks(self, tensor: Tensor, made: _Made) -> bool:
        """Whether ``tensor`` is a weight that trains."""
        if id(tensor) in self._held:
            return id(tensor) in self._asks_of
        return made.weight and made.trains and tensor.numel() > 1

    def _of(self, tensor: Tensor) -> _Made:
        known: _Made | None = self._made.get(tensor)
        if known is not None:
            return known
        held = self._held.get(id(tensor))
        if held is not None:
            return held[1]
        return _NEW if tensor.dim() == 0 else _DATA

    def _weight(self, tensor: Tensor, layer: nn.Module | None) -> _Made:
        """Return what ``tensor`` is; of one that several have, what it is to ``layer``."""
        made, owners = self._of(tensor), self._owners.get(id(tensor), ())
        if layer is None or len(owners) < 2 or id(layer) not in owners or not made.of:
            return made
        return made._replace(of=made.of & self._bits.get(self._paths[id(layer)], 0))

    def _mark(self, tensor: Tensor, made: _Made) -> None:
        """Remember what ``tensor`` is made of; choices and single numbers are no outputs."""
        if id(tensor) in self._held:
            return
        plain = tensor.dtype == torch.bool or tensor.dim() == 0
        self._made[tensor] = _Made(weight=made.weight, new=made.new) if plain else made

    def _write(self, tensor: Tensor, made: _Made) -> None:
        """Take in what was written; parameters stay what they are, buffers may hold data."""
        for one in (tensor, tensor._base):
            if one is None or isinstance(one, nn.Parameter):
                continue
            known = self._of(one)
            if not made.weight or not known.weight:
                self._made[one] = _Made(known.of | made.of, known.trains or made.trains)


class _Functions(TorchFunctionMode):
    """Tells of each function that ran, and lets it compute."""

    def __init__(self, note: Callable[[Any, Any, Any], None]) -> None:
        self._note = note

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute a function, and tell of it."""
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        self._note(func, (args, kwargs), found)
        return found


def roles(
    model: nn.Module,
    feeding: Collection[str],
    called: Collection[str],
    trains: Trains = lambda one: one.requires_grad,
) -> dict[str, bool]:
    """Return the outermost frozen modules by path, and whether each feeds what trains.

    One that nobody calls, and that holds some that do and some that do not, is none.

    Args:
        model: itself is none of them.
        feeding: of a ``Flow``, or of several; so is ``called``.
        trains: as for ``Flow``.
    """
    found: dict[str, bool] = {}
    called = {*called, *feeding}  # by functions that take their weights, too
    for path, module in model.named_modules():
        above = any(is_in(path, one) for one in found)
        frozen = _has_any(module.parameters()) and not _any(trains, module.parameters())
        if path and frozen and not above:
            feeds = {_feeds(one, feeding) for one in _outermost(path, module, called)}
            if len(feeds) < 2:
                found[path] = feeds == {True}
    return found


def _outermost(path: str, module: nn.Module, called: Collection[str]) -> Iterator[str]:
    """Yield what is called of ``module`` without what is around it, and what nobody calls."""
    if path in called or not any(is_in(one, path) for one in called):
        yield path
        return
    for name, child in module.named_children():
        if _has_any(child.parameters()):
            yield from _outermost(f"{path}.{name}", child, called)


def _feeds(path: str, feeding: Collection[str]) -> bool:
    return any(is_in(one, path) for one in feeding)


def is_in(name: str, path: str) -> bool:
    """Whether the module or op ``name`` is the one at ``path``, or in it."""
    return not path or name == path or name.startswith((f"{path}.", f"{path}#"))


def _joined(made: Collection[_Made]) -> _Made:
    """Return what is made of all of these."""
    return _Made(
        reduce(or_, (one.of for one in made), 0),
        any(one.trains for one in made),
        all(one.weight for one in made),
        all(one.new for one in made),
    )


def _any(trains: Trains, parameters: Iterator[nn.Parameter]) -> bool:
    return any(trains(one) for one in parameters)


def _has_any(parameters: Iterator[nn.Parameter]) -> bool:
    return next(parameters, None) is not None


def _name(func: Any) -> str:
    return str(getattr(func, "__name__", "")).strip("_")


def _has_no_values(name: str) -> bool:
    """Whether what a function gives has only the shape and type of what it is given."""
    return name.startswith("new_") or name.endswith("_like")


def _writes(func: Any) -> bool:
    """Whether a function writes into its first tensor."""
    name = str(getattr(func, "__name__", ""))
    in_place = name.endswith("_") and not name.endswith("__")
    return in_place or name == "__setitem__" or name in {f"__i{one}__" for one in _AUGMENTED}


def _tensors(value: Any) -> list[Tensor]:
    """Return all tensors in lists, tuples, mappings and dataclasses."""
    found: list[Tensor] = []
    _gather(value, found)
    return found


def _gather(value: Any, found: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        found.append(value)
    elif isinstance(value, list | tuple | set):
        for one in value:
            _gather(one, found)
    elif isinstance(value, Mapping):
        for one in value.values():
            _gather(one, found)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            _gather(getattr(value, field.name), found)
