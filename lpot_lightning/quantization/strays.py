"""Layers of a traced part that other code calls on their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn


class Strays:
    """Finds out which layers are called by more than the graph that has them.

    A graph computes with the weights of its layers and calls none of them. ``training_step`` may
    still call one, past the part that holds it: that call is not rounded.
    """

    def __init__(self) -> None:
        self.found: set[str] = set()
        self._watched: list[tuple[nn.Module, Callable[..., Any]]] = []

    def watch(self, model: nn.Module, layers: Iterable[str]) -> None:
        """Note in ``found`` which of ``layers`` is called, until ``stop``."""
        self.stop()
        self.found = set()
        for name in layers:
            layer = model.get_submodule(name)
            if "forward" not in vars(layer):
                noted = self._noted(name, layer.forward)
                vars(layer)["forward"] = noted
                self._watched.append((layer, noted))

    def stop(self) -> None:
        """Leave all layers as they were."""
        for layer, noted in self._watched:
            if vars(layer).get("forward") is noted:
                del vars(layer)["forward"]
        self._watched = []

    def _noted(self, name: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            self.found.add(name)
            return forward(*args, **kwargs)

        return noted
