"""Call the modules that are entered from outside, and see what they give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lpot_lightning.errors import PruningError, in_short

CallsByPath = Mapping[str, tuple[tuple[Any, ...], Mapping[str, Any]]]
"""Example args and kwargs by the path of each module that is entered; ``""`` is the model."""


def entered(model: nn.Module, calls: CallsByPath) -> Iterator[tuple[str, list[Tensor]]]:
    """Make each of the ``calls`` and yield its path and the tensors that it gives.

    The arguments are copied for each call: a model may write into them.
    """
    for path, (args, kwargs) in calls.items():
        module = model.get_submodule(path)
        given = module(*_fresh(args), **_fresh(dict(kwargs)))
        yield path, list(tensors_in(given))


def check_calls(model: nn.Module, calls: CallsByPath) -> None:
    """Raise a ``PruningError`` if a call fails, or gives no tensors."""
    for path, arguments in calls.items():
        called = path or type(model).__name__
        try:
            ((_, given),) = entered(model, {path: arguments})
        except Exception as error:  # the user's own code
            reason = in_short(error)
            raise PruningError(f"`{called}` fails on its example batch: {reason}") from error
        if not given:
            raise PruningError(
                f"`{called}` gives no tensors, so that nobody can tell whether a smaller one"
                " computes the same: prune the parts of it that do"
            )


@contextmanager
def random_numbers_kept(model: nn.Module) -> Iterator[None]:
    """Give torch's random numbers back as they were, those of the model's devices too."""
    devices = {one.device.index for one in model.parameters() if one.is_cuda}
    with torch.random.fork_rng(sorted(devices)):
        yield


def tensors_in(value: object) -> Iterator[Tensor]:
    """Yield the tensors in ``value``: in containers, dataclasses, and objects that hold some."""
    seen: dict[int, object] = {}
    todo = [value]
    while todo:
        for leaf in pytree.tree_leaves(todo.pop(0)):
            if isinstance(leaf, Tensor):
                yield leaf
            elif id(leaf) not in seen and _holds_values(leaf):
                seen[id(leaf)] = leaf
                todo.append(dict(vars(leaf)))


def _holds_values(thing: object) -> bool:
    return hasattr(thing, "__dict__") and not isinstance(thing, (nn.Module, type))


def _fresh(arguments: Any) -> Any:
    return pytree.tree_map_only(Tensor, lambda one: one.detach().clone(), arguments)
