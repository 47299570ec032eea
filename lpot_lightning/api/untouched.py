"""A module as it was, where a pass over it does not reach its end."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

_CONTAINERS = (list, dict, set, deque)


@contextmanager
def as_before_on_error(model: nn.Module) -> Iterator[None]:
    """Put attributes of all modules back if the ``with`` raises.

    A ``validation_step`` that gathers outputs in a list relies on the end of the epoch to clear it;
    without, the next trial would be judged by them, too. Lists, dicts and sets have their members
    put back; numbers inside of tensors are not.
    """
    before = [(one, dict(vars(one)), _members(one)) for one in model.modules()]
    try:
        yield
    except BaseException:
        for module, own, members in before:
            vars(module).clear()
            vars(module).update(own)
            for container, content in members:
                _refill(container, content)
        raise


def _members(module: nn.Module) -> list[tuple[Any, Any]]:
    found: dict[int, tuple[Any, Any]] = {}
    for value in vars(module).values():
        _collect(value, found)
    return list(found.values())


def _collect(value: Any, found: dict[int, tuple[Any, Any]]) -> None:
    """Take a container and those in it, each once."""
    if not isinstance(value, _CONTAINERS) or id(value) in found:
        return
    found[id(value)] = value, copy.copy(value)
    for one in value.values() if isinstance(value, dict) else value:
        _collect(one, found)


def _refill(container: Any, content: Any) -> None:
    container.clear()
    container.extend(content) if hasattr(container, "extend") else container.update(content)
