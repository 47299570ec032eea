"""Read the plan of a smaller model, from a file of anybody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lpot_lightning.errors import ArtifactError
from lpot_lightning.pruning.channels.layers import SIZES

Indices = tuple[int, ...]
Tensors = dict[str, tuple[Indices, tuple[Indices | None, ...]]]


def read_plan(plain: object) -> tuple[Tensors, dict[str, dict[str, int]]]:
    """Return shape and kept indices by tensor, and the sizes by layer.

    Raises:
        ArtifactError: naming the first thing that cannot be.
    """
    parts = _keys(plain, "the plan", {"kept", "tensors", "sizes"})
    lists = [_indices(one, f"`kept[{i}]`") for i, one in enumerate(_list(parts["kept"], "`kept`"))]
    tensors = {
        name: _tensor(one, f"`tensors.{name}`", lists)
        for name, one in _mapping(parts["tensors"], "`tensors`").items()
    }
    sizes = {
        path: _layer(one, f"`sizes.{path}`")
        for path, one in _mapping(parts["sizes"], "`sizes`").items()
    }
    return tensors, sizes


def _tensor(
    plain: object, where: str, lists: list[Indices]
) -> tuple[Indices, tuple[Indices | None, ...]]:
    parts = _keys(plain, where, {"shape", "kept"})
    shape = tuple(_whole(one, f"{where}, its shape") for one in _list(parts["shape"], where))
    numbers = _list(parts["kept"], where)
    if len(numbers) != len(shape):
        raise ArtifactError(f"{where} tells of {len(numbers)} dimensions and has {len(shape)}")
    kept = tuple(_chosen(one, where, lists) for one in numbers)
    for size, one in zip(shape, kept, strict=True):
        if one is not None and one[-1] >= size:
            raise ArtifactError(f"{where} keeps index {one[-1]} of a dimension of {size}")
    return shape, kept


def _chosen(number: object, where: str, lists: list[Indices]) -> Indices | None:
    if number is None:
        return None
    if _whole(number, where) >= len(lists):
        raise ArtifactError(f"{where} names list {number} of `kept`, which has {len(lists)}")
    return lists[_whole(number, where)]


def _indices(plain: object, where: str) -> Indices:
    found = tuple(_whole(one, where) for one in _list(plain, where))
    if not found:
        raise ArtifactError(f"{where} is empty: something of each dimension has to stay")
    for before, after in zip(found, found[1:], strict=False):
        if before >= after:
            raise ArtifactError(f"{where} has {after} after {before}: indices have to increase")
    return found


def _layer(plain: object, where: str) -> dict[str, int]:
    sizes = _mapping(plain, where)
    for name, size in sizes.items():
        if name not in SIZES:
            raise ArtifactError(f"{where} has `{name}`, which is no size of a layer")
        if _whole(size, f"{where}, its `{name}`") < 1:
            raise ArtifactError(f"{where} has `{name}: {size}`; it has to be 1 or more")
    return dict(sizes)


def _keys(plain: object, where: str, names: set[str]) -> Mapping[str, Any]:
    found = _mapping(plain, where)
    if found.keys() != names:
        has, wanted = sorted(found), sorted(names)
        raise ArtifactError(f"{where} has the keys {has}, and should have {wanted}")
    return found


def _mapping(plain: object, where: str) -> Mapping[str, Any]:
    if isinstance(plain, dict) and all(isinstance(key, str) for key in plain):
        return plain
    raise ArtifactError(f"{where} is no mapping of names")


def _list(plain: object, where: str) -> list[Any]:
    if isinstance(plain, list):
        return plain
    raise ArtifactError(f"{where} is no list, where one has to be")


def _whole(plain: object, where: str) -> int:
    if isinstance(plain, int) and not isinstance(plain, bool) and plain >= 0:
        return plain
    raise ArtifactError(f"{where} has `{plain!r}`, and no whole number from 0")
