"""Trees of plain values and tensors, as files hold them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from lpot_lightning.errors import ArtifactError

MOST_VALUES, _LONGEST_TEXT, _LARGEST, _DEEPEST = 1000, 2000, 1 << 63, 16
_SCALARS = (bool, int, float, str, type(None))


class NotPlain(Exception):
    """A tree holds something that no file of ours can hold; the text says what."""


def to_plain(value: object, tensor: Callable[[Tensor], Any] | None = None) -> Any:
    """Return a tree of numbers, texts, ``None``, lists, tuples, dicts and tensors as a file has it.

    Everything but a scalar becomes a mapping with one key, which says what it is. What is read back
    by ``from_plain`` is of the same types.

    Args:
        value: the tree.
        tensor: what a tensor becomes; without it tensors are not plain.

    Raises:
        NotPlain: if it holds something else, or too much.

    Example::

        to_plain((1, [2.0]))  # {"tuple": [1, {"list": [2.0]}]}
    """
    return _Writer(tensor).written(value, 1)


class _Writer:
    def __init__(self, tensor: Callable[[Tensor], Any] | None) -> None:
        self._tensor, self._count = tensor, 0

    def written(self, value: Any, depth: int) -> Any:
        self._count += 1
        if self._count > MOST_VALUES or depth > _DEEPEST:
            raise NotPlain(f"more than {MOST_VALUES:,} values, or {_DEEPEST} levels")
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, Tensor) and self._tensor is not None:
            return {"tensor": self._tensor(value)}
        if type(value) in (list, tuple):
            return {type(value).__name__: [self.written(one, depth + 1) for one in value]}
        if type(value) is dict:
            pairs = [[_scalar(key), self.written(one, depth + 1)] for key, one in value.items()]
            return {"dict": pairs}
        return _scalar(value)


def _scalar(value: Any) -> Any:
    """Return ``value`` if it is a scalar; what is more than one, as an ``IntEnum``, is none."""
    if type(value) not in _SCALARS:
        raise NotPlain(f"a `{type(value).__name__}`")
    if type(value) is int and abs(value) >= _LARGEST:
        raise NotPlain("an integer of more than 64 bits")
    if type(value) is str and (len(value) > _LONGEST_TEXT or not _is_text(value)):
        raise NotPlain(f"a text that is no UTF-8, or of more than {_LONGEST_TEXT:,} characters")
    return value


def _is_text(value: str) -> bool:
    try:
        return value.encode() is not None
    except UnicodeEncodeError:
        return False


def from_plain(plain: object, tensors: Sequence[Tensor] = ()) -> Any:
    """Return the tree that ``to_plain`` was given; its tensors by their numbers.

    Args:
        plain: read from a file, whose levels were counted.
        tensors: of the tree.

    Raises:
        ArtifactError: if ``to_plain`` never gives such a thing.
    """
    if isinstance(plain, dict) and len(plain) == 1:
        ((kind, held),) = plain.items()
        if kind == "tensor" and type(held) is int and 0 <= held < len(tensors):
            return tensors[held]
        if kind in ("list", "tuple") and isinstance(held, list):
            items = [from_plain(one, tensors) for one in held]
            return items if kind == "list" else tuple(items)
        if kind == "dict" and isinstance(held, list) and all(map(_is_pair, held)):
            return {key: from_plain(one, tensors) for key, one in held}
    if type(plain) in _SCALARS:
        return plain
    raise ArtifactError(f"`{str(plain)[:60]}` is no value of a file of ours")


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and type(value[0]) in _SCALARS
