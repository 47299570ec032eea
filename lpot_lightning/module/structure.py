"""Which modules a model is made of, to see when one is another."""

from __future__ import annotations

from torch import nn


class Structure:
    """The modules of a model at one moment, each by its place.

    To look whether they still are what they were takes some microseconds for 160 modules, so it can
    be done before each batch.

    Args:
        model: whose they are; what it holds is held until another ``Structure`` is made.

    Example::

        structure = Structure(lit)
        lit.head = nn.Linear(8, 20)
        structure.is_of(lit)  # False
        structure.exchanged(lit)  # {"head"}
    """

    def __init__(self, model: nn.Module) -> None:
        self._children = [
            (one, dict(one._modules))
            for one in model.modules()
            if isinstance(one._modules, dict)  # TorchScript has no such, and never changes
        ]
        self._modules = dict(model.named_modules())

    def is_of(self, model: nn.Module) -> bool:
        """Whether ``model`` is made of these very modules, in these very places."""
        return self._modules[""] is model and all(
            one._modules == known for one, known in self._children
        )

    def exchanged(self, model: nn.Module) -> set[str]:
        """Return the paths at which there is another module now, a new one, or none any more."""
        now = dict(model.named_modules())
        return {
            path
            for path in self._modules.keys() | now.keys()
            if self._modules.get(path) is not now.get(path)
        }
