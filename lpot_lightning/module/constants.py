"""Which tensors come of a module's own tensors alone, whatever the data are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

_RANDOM = frozenset(
    (
        "bernoulli", "bernoulli_", "normal", "normal_", "uniform_", "rand_like", "randn_like",
        "randint_like", "multinomial", "poisson", "exponential_", "geometric_", "log_normal_",
        "cauchy_", "rrelu", "random_", "gumbel_softmax", "alpha_dropout", "feature_alpha_dropout",
        "empty_like", "new_empty",
    )
)  # fmt: skip


class Constants:
    """The tensors that are computed of some given ones alone, with those that each is made of.

    It is told of every function that runs, and holds what it knows: no other tensor gets its id.

    Args:
        given: what everything comes of.

    Example::

        constants = Constants(layer.parameters())
        scaled = layer.weight * 2
        constants.note(torch.mul, (layer.weight, 2), scaled)
        constants.sources(scaled)  # {id(layer.weight)}
    """

    def __init__(self, given: Iterable[Tensor]) -> None:
        self._known = {id(one): (one, frozenset((id(one),))) for one in given}

    def sources(self, tensor: object) -> frozenset[int]:
        """Return the ids of what ``tensor`` is made of; of data it is made if there are none."""
        return self._known.get(id(tensor), (None, frozenset[int]()))[1]

    def note(self, func: Callable[..., Any], given: Any, found: Any) -> None:
        """Take in that ``func`` made ``found`` of what it was given."""
        known = [self.sources(one) for one in tensors_in(given)]
        fixed = bool(known) and all(known) and func.__name__ not in _RANDOM
        for one in tensors_in(found):
            if fixed:
                self._known[id(one)] = one, frozenset().union(*known)
            else:  # what held weights alone may have been written to
                self._known.pop(id(one), None)


def is_random(func: object) -> bool:
    """Whether a function, or a method by its name, gives something else each time."""
    return (func if isinstance(func, str) else getattr(func, "__name__", "")) in _RANDOM


def tensors_in(value: Any) -> list[Tensor]:
    """Return all tensors in lists, tuples and mappings."""
    return [one for one in pytree.tree_leaves(value) if isinstance(one, Tensor)]
