"""Attention heads, which go as a whole."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

from lpot_lightning.pruning.channels.entering import CallsByPath
from lpot_lightning.pruning.channels.group import Group, Slices
from lpot_lightning.pruning.channels.head_probe import HeadProbe
from lpot_lightning.pruning.channels.layers import HEAD_WIDTHS, HEADS, WIDTHS, WIDTHS_OF_HEADS
from lpot_lightning.pruning.channels.proof import Proof

WAYS = tuple(product(((), WIDTHS_OF_HEADS, WIDTHS_OF_HEADS + WIDTHS), (True, False)))
"""Which widths a module states that are those of all heads, and whether it has more for each."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Attention:
    """A module with heads, and the linear layers that they are in.

    Args:
        path: of the module.
        value: the path of the layer that gives the values.
        rows: ``[heads, k]``: those of each head in the layers that give query, key and value.
        reader: the path of the layer that reads what the heads give.
        columns: ``[heads, k]``: those of each head in the reader.
    """

    path: str
    value: str
    rows: Mapping[str, Tensor]
    reader: str
    columns: Tensor


@dataclass(frozen=True)
class AttentionSizes:
    """What modules that attend alike have in common.

    Args:
        heads: how many they may have.
        sizes: inputs and outputs of their own linear layers, by name.
    """

    heads: int
    sizes: tuple[tuple[str, tuple[int, int]], ...]


def head_groups(
    model: nn.Module, calls: CallsByPath, proof: Proof, excluded: dict[str, str]
) -> list[Group]:
    """Return the heads that can be cut, those of one attention as one group; each proved alone.

    A head is its rows of query, key and value, and its columns of the layer that reads it: the one
    whose inputs are zero there where the value is zero. Torch-Pruning has to be told of heads.

    Args:
        model: a copy, in eval mode; left as it is.
        calls: as of ``find_groups``.
        proof: of the model.
        excluded: layers whose channels cannot be cut, and why; says of heads why they cannot be.
    """
    probe, groups, done = HeadProbe(proof, calls), list[Group](), set[str]()
    for shape, paths in _places(model, excluded):
        if done.isdisjoint(paths):
            ways = list(_attentions(probe, paths, shape))
            found = _proved(model, proof, ways, excluded)
            groups += found
            done.update(paths if found else ())
    return groups


def _places(model: nn.Module, among: Collection[str]) -> list[tuple[AttentionSizes, list[str]]]:
    """Return the modules that may attend, those of blocks that repeat together."""
    kinds: dict[tuple[str, AttentionSizes], list[str]] = defaultdict(list)
    for path, module in model.named_modules():
        linears = {n: one for n, one in module.named_children() if isinstance(one, nn.Linear)}
        linears = {name: one for name, one in linears.items() if _at(path, name) in among}
        sizes = tuple((n, (one.in_features, one.out_features)) for n, one in linears.items())
        for heads in _counts(module, [size for _, (_, size) in sizes]):
            kinds[re.sub(r"\d+", "#", path), AttentionSizes(heads, sizes)].append(path)
    return [(shape, paths) for (_, shape), paths in kinds.items()]


def _at(path: str, name: str) -> str:
    return f"{path}.{name}".lstrip(".")


def _counts(module: nn.Module, sizes: Sequence[int]) -> list[int]:
    """Return how many heads a module may have, by what it says of itself."""
    own = vars(module)
    told = [own[name] for name in HEADS if isinstance(own.get(name), int)]
    widths = [own[name] for name in HEAD_WIDTHS if isinstance(own.get(name), int)]
    if not told:
        every = product(sizes, widths, (1, 2, 3))
        told = [size // (width * parts) for size, width, parts in every if width > 0]
    return [heads for heads in dict.fromkeys(told) if heads > 1 and sizes]


def _attentions(
    probe: HeadProbe, paths: Sequence[str], shape: AttentionSizes
) -> Iterator[list[Attention]]:
    """Yield how modules may attend: whose rows and columns their heads are."""
    sizes = dict(shape.sizes)
    for value, (_, given) in sizes.items():
        for parts, rows in _rows(given, shape.heads):
            columns = torch.arange(given // parts).reshape(shape.heads, -1)
            if len(_alike(sizes, value, given // parts, None)) + parts < 3:
                continue
            readers = probe.readers([_at(path, value) for path in paths], rows, columns)
            found = []
            for path, reader in zip(paths, readers, strict=False):
                own = reader.removeprefix(f"{path}.") if path else reader
                alike = _alike(sizes, value, given // parts, own)
                if len(alike) + parts == 3:
                    at = {_at(path, n): rows if n == value else columns for n in (value, *alike)}
                    found.append(
                        Attention(
                            path=path,
                            value=_at(path, value),
                            rows={one: at[one] for n in sizes if (one := _at(path, n)) in at},
                            reader=reader,
                            columns=columns,
                        )
                    )
            if len(found) == len(paths):
                yield found


def _alike(
    sizes: Mapping[str, tuple[int, int]], value: str, width: int, reader: str | None
) -> list[str]:
    """Return the layers as wide as the heads; if these are too many, those that read the same."""
    found = [n for n, (_, size) in sizes.items() if n not in (value, reader) and size == width]
    return [n for n in found if len(found) <= 2 or sizes[n][0] == sizes[value][0]]


def _rows(size: int, heads: int) -> Iterator[tuple[int, Tensor]]:
    """Yield which rows a head may have in a layer that gives values, and how many parts they are.

    Values alone; keys and values, or queries too, one after another; or those of each head so.
    """
    for parts in (1, 2, 3):
        if size % (parts * heads) == 0:
            every = torch.arange(size)
            yield parts, every.reshape(parts, heads, -1).transpose(0, 1).reshape(heads, -1)
            if parts > 1:
                yield parts, every.reshape(heads, -1)


def _proved(
    model: nn.Module, proof: Proof, ways: Sequence[Sequence[Attention]], excluded: dict[str, str]
) -> list[Group]:
    """Return the groups of blocks that repeat, in the first way that computes the same."""
    reasons: dict[str, str] = {}
    tried: list[object] = []
    for ones, (widths, whole) in product(ways, WAYS):
        groups = [_group(model, one, widths, whole) for one in ones]
        meant = ones, [(one.sizes, [part.name for part in one.carried]) for one in groups]
        if meant in tried:
            continue
        reason = proof.complaint(groups, briefly=True)
        if reason is None:
            return groups
        tried.append(meant)
        for path in (path for one in ones for path in one.rows):
            reasons.setdefault(path, f"without some of its heads: {reason}")
    excluded.update(reasons)
    return []


def _group(model: nn.Module, one: Attention, widths: Sequence[str], whole: bool) -> Group:
    """Return what goes with each head.

    Args:
        widths: names of attributes of the module that are lowered, where they are its width.
        whole: whether tensors of the module with one dimension of as many as heads go, too.
    """
    owner, heads = model.get_submodule(one.path), len(one.columns)
    own, width = vars(owner), one.columns.numel()
    sizes = [(path, "out_features", at.shape[1]) for path, at in one.rows.items()]
    sizes.append((one.reader, "in_features", one.columns.shape[1]))
    sizes += [(one.path, name, 1) for name in HEADS if own.get(name) == heads]
    sizes += [(one.path, n, one.columns.shape[1]) for n in widths if own.get(n) == width]
    return Group(
        name=one.value,
        n=heads,
        zeroed=tuple(_given(model, one.rows)),
        read=(Slices(f"{one.reader}.weight", 1, one.columns),),
        carried=tuple(_carried(owner, one.path, heads)) if whole else (),
        sizes=tuple(sizes),
    )


def _given(model: nn.Module, rows: Mapping[str, Tensor]) -> Iterator[Slices]:
    for path, at in rows.items():
        for name, _ in model.get_submodule(path).named_parameters(recurse=False):
            yield Slices(f"{path}.{name}", 0, at)


def _carried(owner: nn.Module, path: str, heads: int) -> Iterator[Slices]:
    """Yield what else a module has for each head: a scale, a bias of positions."""
    index = torch.arange(heads)[:, None]
    for name, tensor in (*owner.named_parameters("", False), *owner.named_buffers("", False)):
        if tuple(tensor.shape).count(heads) == 1:
            yield Slices(f"{path}.{name}".lstrip("."), tuple(tensor.shape).index(heads), index)
