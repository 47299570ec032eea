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
                noted = _Noted(name, layer.forward, self.found)
                vars(layer)["forward"] = noted
                self._watched.append((layer, noted))

    def stop(self) -> None:
        """Leave all layers as they were."""
        for layer, noted in self._watched:
            if vars(layer).get("forward") is noted:
                del vars(layer)["forward"]
        self._watched = []


class _Noted:
    """The ``forward`` of a layer; that of its copy is the copy's own, and notes for nobody."""

    def __init__(self, name: str, forward: Callable[..., Any], found: set[str]) -> None:
        self._name, self._forward, self._found = name, forward, found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._found.add(self._name)
        return self._forward(*args, **kwargs)
