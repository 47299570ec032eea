"""A module that can be copied, whatever became of it in training."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

Model = TypeVar("Model", bound=nn.Module)


class Uncompiled(nn.Module):
    """Stands where a ``torch.compile``d module stood, with the same names, and calls it plainly."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._orig_mod = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call what was compiled."""
        return self._orig_mod(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Return what the module has: a compiled one gives its attributes on, too."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__"):  # how to copy it is its own affair
                raise
            return getattr(self._modules["_orig_mod"], name)


def copy_of(model: Model, *, share_tensors: bool = False) -> Model:
    """Return a deep copy of ``model``, as it is without ``torch.compile``.

    Tensors that belong to an autograd graph, as a stored activation does, are copied as values;
    torch refuses them.

    Args:
        model: left as it is.
        share_tensors: whether parameters and buffers are those of ``model``: to see whether it
            can be copied, without the memory.
    """
    memo: dict[int, Any] = dict(_values(model, share_tensors))
    for module in reversed(list(model.modules())):
        compiled = _compiled(module)
        memo.update((id(value), None) for value in compiled.values())
        if is_compiled(module):
            memo[id(module)] = Uncompiled(copy.deepcopy(module._orig_mod, memo))
    with torch.no_grad():  # the tensors of a scripted module would become results of its own
        copied_model = copy.deepcopy(model, memo)
    for before, after in zip(model.modules(), copied_model.modules(), strict=True):
        for name in _compiled(before).keys() - {"_compiler_ctx"}:
            del vars(after)[name]
    return copied_model


def is_compiled(module: nn.Module) -> TypeGuard[Uncompiled]:
    """Whether ``torch.compile`` gave ``module``; asking torch itself imports its compiler."""
    return any(kind.__module__.startswith("torch._dynamo") for kind in type(module).__mro__)


def _values(model: nn.Module, share_tensors: bool) -> Iterator[tuple[int, Tensor]]:
    """Yield what stands for a tensor in the copy, by the ``id`` of the tensor."""
    for module in model.modules():
        for value in pytree.tree_leaves(_own(module)):
            if not isinstance(value, Tensor):
                continue
            if share_tensors:
                yield id(value), value
            elif not value.is_leaf:
                yield id(value), value.detach().clone()


def _own(module: nn.Module) -> list[Any]:
    """Return what ``module`` itself holds: tensors, and plain things that may hold tensors."""
    own = vars(module)
    return [value for name, value in own.items() if name not in ("_modules", "_trainer")]


def _compiled(module: nn.Module) -> dict[str, Any]:
    """Return what Lightning puts into a module that was compiled as a whole.

    Its steps are bound to the module: in a copy they would still run that one.
    """
    own = vars(module)
    context = own.get("_compiler_ctx")
    if context is None:
        return {}
    names = (name.removeprefix("original_") for name in context if name.startswith("original_"))
    return {name: own[name] for name in ("_compiler_ctx", *names) if name in own}
