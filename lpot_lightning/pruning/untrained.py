"""Weights that nothing trains: what is pruned of them cannot recover."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from torch import nn


def frozen_in(model: nn.Module, trained: Collection[int] = ()) -> list[str]:
    """Return the names of the parameters that nothing trains, also those of tied ones.

    Args:
        model: whose parameters.
        trained: ``id``s of what the optimizers have. Where no parameter of the model is among them,
            they tell nothing: some keep copies of their own, or are made later.

    Example::

        frozen_in(model, {id(one) for group in optimizer.param_groups for one in group["params"]})
    """
    named = dict(model.named_parameters(remove_duplicate=False))
    tells = any(id(one) in trained for one in named.values())
    return [
        name
        for name, one in named.items()
        if not one.requires_grad or (tells and id(one) not in trained)
    ]


def topmost(chosen: Collection[str], every: Collection[str]) -> list[str]:
    """Return the modules all of whose weights are ``chosen``, and single weights besides.

    Example::

        topmost(["net.0.weight", "head.weight"], ["net.0.weight", "net.1.weight", "head.weight"])
        # ["net.0", "head"]
    """
    counts = Counter(path for name in every for path in modules_above(name))
    whole = Counter(path for name in chosen for path in modules_above(name))
    found = (
        next((path for path in modules_above(name) if whole[path] == counts[path]), name)
        for name in chosen
    )
    return list(dict.fromkeys(found))


def modules_above(name: str) -> Iterator[str]:
    """Yield the modules that a parameter is in by its name, the outermost first."""
    pieces = name.split(".")
    yield from (".".join(pieces[:end]) for end in range(1, len(pieces)))
