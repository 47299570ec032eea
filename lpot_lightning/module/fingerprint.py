"""What makes two models, or two data sets, the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lpot_lightning.errors import ArtifactError

_PLAIN = (str, bytes, int, float, complex, bool, type(None), torch.dtype, torch.device)
_LEAVES = frozenset((*_PLAIN, Tensor, nn.Parameter, np.ndarray))


def content_hash(value: object) -> str:
    """Return a SHA-256 over all tensors, arrays, numbers and texts in ``value``, at any depth."""
    digest = hashlib.sha256()
    leaves: list[Any] = []
    try:
        tree = _tree_of_plain(value, 2, leaves)
    except _Other:
        leaves, spec = pytree.tree_flatten(value)
        tree = str(spec)
    digest.update(tree.encode())
    for leaf in leaves:
        digest.update(_leaf_content(leaf))
    return digest.hexdigest()


class _Other(Exception):
    """A value is neither plain nor a tensor."""


def _tree_of_plain(value: Any, indent: int, leaves: list[Any]) -> str:
    """Return how torch 2.13 shows the tree of plain values, whose leaves go into ``leaves``.

    The tune config of a ResNet-50 has 2,449 of them: torch takes four times as long.
    """
    kind = type(value)
    if kind in _LEAVES:
        leaves.append(value)
        return "*"
    if kind is not dict and kind is not list:
        raise _Other
    inside, keys = (value.values(), list(value)) if kind is dict else (value, None)
    deeper = indent + 2
    shown = f",\n{' ' * indent}".join([_tree_of_plain(one, deeper, leaves) for one in inside])
    return f"TreeSpec({kind.__name__}, {keys}, [{shown}])"


def _leaf_content(leaf: Any) -> bytes:
    if type(leaf) in _PLAIN:  # which most are
        return f"{type(leaf).__name__}{leaf!r}".encode()
    if isinstance(leaf, np.ndarray) and leaf.dtype != object:
        leaf = torch.from_numpy(np.ascontiguousarray(leaf)) if leaf.dtype.kind in "biuf" else leaf
    if isinstance(leaf, Tensor):
        plain = leaf.detach().cpu().contiguous().reshape(-1)
        return (
            f"{leaf.dtype}{list(leaf.shape)}".encode() + plain.view(torch.uint8).numpy().tobytes()
        )
    if isinstance(leaf, _PLAIN):
        return f"{type(leaf).__name__}{leaf!r}".encode()
    inside = getattr(leaf, "__dict__", {})  # its `repr` may be an address, and no content
    return f"{type(leaf).__name__}{content_hash(inside) if inside else ''}".encode()


def fingerprint(model: nn.Module) -> dict[str, str]:
    """Return name to dtype and shape of every tensor of the fp32 model, as ``float32[8, 3]``."""
    return {
        name: described_tensor(value)
        for name, value in nn.Module.state_dict(model).items()
        if isinstance(value, Tensor)
    }


def described_tensor(value: Tensor) -> str:
    """Return dtype and shape of a tensor, as ``float32[8, 3]``."""
    return f"{_name_of(value.dtype)}{list(value.shape)}"


@cache
def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def check_fingerprint(expected: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Raise ``ArtifactError`` at the first tensor in which two fingerprints differ."""
    for name in (*expected, *found):
        if name not in found:
            raise ArtifactError(f"the model has no `{name}`, that of the files has")
        if name not in expected:
            raise ArtifactError(f"the model has `{name}`, that of the files has not")
        if found[name] != expected[name]:
            raise ArtifactError(
                f"`{name}` of the model is {found[name]}, that of the files is {expected[name]}"
            )
