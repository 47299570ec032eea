"""Objects as they were, after a pass or where it does not reach its end."""

from __future__ import annotations

import copy
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_CONTAINERS = (list, dict, set, deque)
_CONTENTS: dict[type, Callable[[Any], Any]] = {
    list: list, dict: dict, set: set, deque: list, OrderedDict: dict
}  # fmt: skip
"""What holds the members of those that are no classes of somebody's.

A module has eight hook collections: to copy one as ``copy.copy`` does takes ten times as long.
"""


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Let ``model`` be in eval mode, without gradients; each module has its own mode afterwards."""
    modes = [(one, one.training) for one in model.modules()]
    try:
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for one, mode in modes:
            one.training = mode


@contextmanager
def as_before_on_error(model: nn.Module) -> Iterator[None]:
    """Put attributes of all modules back if the ``with`` raises.

    A ``validation_step`` that gathers outputs in a list relies on the end of the epoch to clear it;
    without, the next trial would be judged by them, too. Lists, dicts and sets have their members
    put back; numbers inside of tensors are not.
    """
    put_back = _kept(map(vars, model.modules()))
    try:
        yield
    except BaseException:
        put_back()
        raise


@contextmanager
def as_before_but(model: nn.Module, name: str) -> Iterator[None]:
    """Put attributes of all modules back when the ``with`` ends, but of those inside of ``name``.

    Args:
        model: whose modules.
        name: of children that keep what they note, with all that they hold.
    """
    inside = [one for path, one in model.named_modules() if name not in path.split(".")]
    put_back = _kept(map(vars, inside))
    try:
        yield
    finally:
        put_back()


@contextmanager
def as_before(objects: Iterable[object]) -> Iterator[None]:
    """Put attributes of ``objects`` back when the ``with`` ends, also those of modules they hold.

    Lists, dicts and sets have their members put back, those of their classes as well, and tensors
    their numbers; parameters and buffers are left alone.
    """
    owners = list(objects)
    own = [vars(one) for one in (*owners, *held_modules(owners))]
    put_back = _kept(own)
    shared = [_members(vars(kind)) for one in owners for kind in type(one).__mro__[:-1]]
    numbers = [(one, one.clone()) for each in own for one in each.values() if _is_plain(one)]
    try:
        yield
    finally:
        put_back()
        for members in shared:
            _refill_all(members)
        with torch.no_grad():
            for tensor, before in numbers:
                tensor.copy_(before)


def held_modules(owners: Iterable[object]) -> list[nn.Module]:
    """Return the modules among the attributes of ``owners``, and those in them."""
    held = (value for one in owners for value in vars(one).values())
    return [inner for one in held if isinstance(one, nn.Module) for inner in one.modules()]


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and not value.requires_grad


def _kept(attributes: Iterable[dict[str, Any]]) -> Callable[[], None]:
    """Return what puts back the attributes that are there now."""
    before = [(own, dict(own), _members(own)) for own in attributes]

    def put_back() -> None:
        for own, values, members in before:
            own.clear()
            own.update(values)
            _refill_all(members)

    return put_back


def _members(attributes: Any) -> list[tuple[Any, Any]]:
    found: dict[int, tuple[Any, Any]] = {}
    _collect(attributes.values(), found)
    return list(found.values())


def _collect(values: Iterable[Any], found: dict[int, tuple[Any, Any]]) -> None:
    """Take the containers among ``values`` and those in them, each once."""
    for one in values:
        if isinstance(one, _CONTAINERS) and id(one) not in found:
            found[id(one)] = one, _CONTENTS.get(type(one), copy.copy)(one)
            _collect(one.values() if isinstance(one, dict) else one, found)


def _refill_all(members: Iterable[tuple[Any, Any]]) -> None:
    for container, content in members:
        container.clear()
        container.extend(content) if hasattr(container, "extend") else container.update(content)
