"""Who calls which module, and with what: one dry run."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

Scalar = bool | int | float | str | None


@dataclass
class Calls:
    """All calls of one module in a dry run."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    count: int = 1
    fixed: list[dict[str, Scalar]] = field(default_factory=list)
    above: list[frozenset[int]] = field(default_factory=list)

    @property
    def same_shape(self) -> bool:
        """Whether every call gave the same non-tensor arguments."""
        return all(one == self.fixed[0] for one in self.fixed)


@contextmanager
def recorded(model: nn.Module) -> Iterator[dict[int, Calls]]:
    """Record the calls of all modules of ``model`` inside the ``with``, by ``id`` of the module.

    The first call's arguments are kept; of every call, which modules were being called around it.

    Example::

        with recorded(model) as calls:
            model(batch)
        calls[id(model.head)].args
    """
    calls: dict[int, Calls] = {}
    stack: list[int] = []
    handles = []

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found = calls.setdefault(id(module), Calls(args, kwargs, count=0))
        found.count += 1
        found.fixed.append(fixed_arguments(module, args, kwargs))
        found.above.append(frozenset(stack))
        stack.append(id(module))

    def leave(*_: object) -> None:
        stack.pop()

    for module in model.modules():
        handles.append(module.register_forward_pre_hook(enter, prepend=True, with_kwargs=True))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def fixed_arguments(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Scalar]:
    """Return the arguments of ``forward`` that are no tensors: a trace takes them as constants."""
    try:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
    except TypeError:
        return {}
    bound.apply_defaults()
    return {name: v for name, v in bound.arguments.items() if isinstance(v, Scalar)}


def entered_only_through_forward(module: nn.Module, calls: dict[int, Calls]) -> bool:
    """Whether nobody outside ``module`` called a part of it past its own ``forward``."""
    if id(module) not in calls:
        return False
    inside = [id(part) for part in module.modules() if part is not module]
    return all(
        id(module) in above for part in inside if part in calls for above in calls[part].above
    )


def holds_tensor(value: object) -> bool:
    """Whether ``value`` is, or holds, a tensor."""
    if isinstance(value, Tensor):
        return True
    if isinstance(value, dict):
        return any(holds_tensor(item) for item in value.values())
    return isinstance(value, list | tuple) and any(holds_tensor(item) for item in value)
