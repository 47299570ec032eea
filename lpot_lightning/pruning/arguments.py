"""Gradients of what a model's ``forward`` is given, as a ``head_mask``."""

from __future__ import annotations

import inspect
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lpot_lightning.errors import ConfError


class ArgumentGradients:
    """Sums up ``|dL/dx|`` of a tensor that is given to ``forward`` by name.

    All modules are watched whose ``forward`` has an argument of this name; where one of them gives
    it on to others, the outermost counts. LPOT read the local variables of torch's own code.

    Args:
        model: whose modules.
        name: of the argument.

    Raises:
        ConfError: if no module takes such an argument.
    """

    def __init__(self, model: nn.Module, name: str, place: str) -> None:
        self._name, self._depth = name, 0
        self.sum: Tensor | None = None
        self._handles: list[RemovableHandle] = []
        self._seen: list[tuple[weakref.ref[Tensor], RemovableHandle]] = []
        for module in model.modules():
            if name in inspect.signature(module.forward).parameters:
                self._watch(module)
        if not self._handles:
            raise ConfError(
                f"`{place}.parameters.importance_inputs` has `{name}`, and no module's `forward`"
                " takes an argument of that name"
            )

    def _watch(self, module: nn.Module) -> None:
        before = module.register_forward_pre_hook(self._entered, with_kwargs=True)
        after = module.register_forward_hook(self._left, always_call=True)
        self._handles += [before, after]

    def _entered(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._depth += 1
        if self._depth > 1 or not torch.is_grad_enabled():
            return
        given = inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments
        value = given.get(self._name)
        if isinstance(value, Tensor) and value.requires_grad:
            self._listen(value)

    def _listen(self, value: Tensor) -> None:
        """Hear of the gradients of a tensor, once also where each step is given the same one."""
        self._seen = [(ref, handle) for ref, handle in self._seen if ref() is not None]
        if not any(ref() is value for ref, _ in self._seen):
            handle = value.register_hook(self._add)  # type: ignore[no-untyped-call]
            self._seen.append((weakref.ref(value), handle))

    def _left(self, *_: object) -> None:
        self._depth -= 1

    def _add(self, gradient: Tensor) -> None:
        size = gradient.detach().float().abs().nan_to_num(0.0, 0.0)
        self.sum = size if self.sum is None else self.sum + size

    def begin_anew(self) -> None:
        """Forget what was summed up."""
        self.sum = None

    def close(self) -> None:
        """Take the hooks out of the model, and off what it was given."""
        for handle in (*self._handles, *(handle for _, handle in self._seen)):
            handle.remove()
        self._handles, self._seen = [], []
