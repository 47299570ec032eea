"""Whether a validation derives by all of a model, which can then not be int8."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from lpot_lightning.module.calls import ModuleCalls


class GradientWatch:
    """Looks at modules with weights, by hooks, until ``end``.

    Args:
        model: the user's.

    Example::

        watch = GradientWatch(model)
        validate(model)
        watch.end()  # True where gradients went through each of them that was called
    """

    def __init__(self, model: nn.Module) -> None:
        self._seen: dict[str, ModuleCalls] = {}
        self._hooks = [
            one.register_forward_hook(partial(self._look, path))
            for path, one in model.named_modules()
            if next(one.parameters(recurse=False), None) is not None
        ]

    def _look(self, path: str, module: nn.Module, args: Any, output: Any) -> None:
        self._seen.setdefault(path, ModuleCalls()).watch_gradients(output)

    def end(self) -> bool:
        """Take the hooks away, and return whether gradients went through all that was called."""
        for hook in self._hooks:
            hook.remove()
        return bool(self._seen) and all(one.derived for one in self._seen.values())
