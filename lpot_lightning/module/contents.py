"""A hash over whatever objects hold, at any depth."""

from __future__ import annotations

import functools
import hashlib
import random
import types
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

MOST_OBJECTS, MOST_BYTES = 100_000, 64 << 20
"""That are looked at beside parameters and buffers: a data set in an attribute is no model."""
_PLAIN = (str, bytes, int, float, complex, bool, type(None), torch.dtype, torch.device)
_SEQUENCES = (list, tuple, deque)
_OF_TORCH = frozenset(vars(nn.Module())) - {"_parameters", "_buffers", "_modules"}
"""Hooks come and go around a validation, and whether a model trains is set by who calls it."""
_PLACES = ("_parameters", "_buffers")

PassedBy = Callable[[nn.Module], frozenset[str]]


class Untold(Exception):
    """There is more, or something else, than can be hashed."""


def contents_hash(model: nn.Module, passed_by: PassedBy) -> str:
    """Return a SHA-256 over all that a module holds, in private attributes, too.

    Args:
        model: with its submodules.
        passed_by: names the attributes of a module that are of no effect.

    Raises:
        Untold: if that is too much, or of a kind that has no content to be seen.
    """
    hashing = _Hashing(passed_by)
    try:
        hashing.add(model)
    except Untold:
        raise
    except Exception as error:  # classes of the user's may do anything
        raise Untold(str(error)) from error
    return hashing.digest.hexdigest()


class _Hashing:
    def __init__(self, passed_by: PassedBy) -> None:
        self.digest = hashlib.sha256()
        self._passed_by = passed_by
        self._met: dict[int, int] = {}
        self._held: list[object] = []
        self._objects = self._bytes = 0

    def add(self, value: Any) -> None:
        """Hash a value; of what was met before its number, so that circles end."""
        self._objects += 1
        if self._objects > MOST_OBJECTS:
            raise Untold(f"more than {MOST_OBJECTS:,} objects")
        if isinstance(value, _PLAIN):
            self._mark(f"{type(value).__name__}{value!r}")
        elif self._is_new(value):
            self._mark(type(value).__qualname__)
            self._add_object(value)

    def _is_new(self, value: object) -> bool:
        if id(value) in self._met:
            self._mark(f"again {self._met[id(value)]}")
            return False
        self._met[id(value)] = len(self._met)
        self._held.append(value)  # as long as it is held nothing else has its `id`
        return True

    def _add_object(self, value: Any) -> None:
        if isinstance(value, Tensor):
            self._count(value.nbytes)
            self._add_tensor(value)
        elif isinstance(value, np.ndarray | np.generic):
            self._add_array(np.asarray(value))
        elif isinstance(value, nn.Module):
            self._add_module(value)
        elif isinstance(value, type | types.ModuleType | types.BuiltinFunctionType):
            self._mark(value.__name__)
        elif isinstance(value, types.FunctionType):
            self._mark(value.__qualname__)
            self._add_all(value.__defaults__ or ())
            self._add_all(cell.cell_contents for cell in value.__closure__ or ())
        else:
            self._add_all(_inside(value))

    def _add_module(self, module: nn.Module) -> None:
        passed_by = self._passed_by(module) | _OF_TORCH
        for name, value in sorted(vars(module).items()):  # a copy has them in another order
            if name in passed_by:
                continue
            self._mark(str(name))
            if name in _PLACES:
                for key, tensor in value.items():
                    self._mark(key)
                    self._add_parameter(tensor)
            elif name == "_modules":
                self._add_all(part for pair in value.items() for part in pair)
            else:
                self.add(value)

    def _add_parameter(self, tensor: Tensor | None) -> None:
        if tensor is None:
            self._mark("none")
        elif self._is_new(tensor):
            self._add_tensor(tensor)

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._bytes > MOST_BYTES:
            raise Untold(f"more than {MOST_BYTES:,} bytes in attributes")

    def _add_tensor(self, tensor: Tensor) -> None:
        self._mark(f"{tensor.dtype}{tuple(tensor.shape)}{tensor.device}")
        if tensor.is_meta:
            raise Untold("a tensor has no values")
        plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
        self.digest.update(plain.view(torch.uint8).numpy().data)

    def _add_array(self, array: np.ndarray[Any, Any]) -> None:
        self._mark(f"{array.dtype}{array.shape}")
        if array.dtype == object:
            self._add_all(array.reshape(-1).tolist())
        else:
            self._count(array.nbytes)
            self.digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)

    def _add_all(self, values: Any) -> None:
        self._mark("(")
        for one in values:
            self.add(one)
        self._mark(")")

    def _mark(self, text: str) -> None:
        self.digest.update(text.encode(errors="surrogatepass") + b"\0")


def _inside(value: Any) -> Iterator[Any]:
    """Yield what an object of another kind holds: items, attributes, the state of a generator."""
    if isinstance(value, dict):
        yield from (part for pair in value.items() for part in pair)
    elif isinstance(value, _SEQUENCES):
        yield from value
    elif isinstance(value, set | frozenset):
        yield from sorted(value, key=repr)
    elif isinstance(value, torch.Generator):
        yield value.get_state()
    elif isinstance(value, random.Random):
        yield value.getstate()
    elif isinstance(value, np.random.Generator):
        yield value.bit_generator.state
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, types.MethodType):
        yield from (value.__func__, value.__self__)
    own = getattr(value, "__dict__", {})
    yield from (part for pair in sorted(own.items()) for part in pair)
    yield from (part for name in _slots(value) for part in (name, getattr(value, name)))


def _slots(value: Any) -> Iterator[str]:
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield name
