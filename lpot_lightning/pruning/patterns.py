"""Which weights go together: tiles, blocks, N of M."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Pattern(Protocol):
    """Turns a weight into rows of groups that are pruned as one, and back.

    Row ``i`` holds the groups of output channel ``i``, or of several that share them.
    """

    def misfit(self, shape: tuple[int, ...], transposed: bool) -> str | None:
        """Return why a weight of this shape does not divide into groups, ``None`` if it does."""

    def reduce(self, values: Tensor, transposed: bool) -> Tensor:
        """Return the sum of each group of ``values``: ``[rows, groups]``."""

    def expand(self, groups: Tensor, shape: tuple[int, ...], transposed: bool) -> Tensor:
        """Return a tensor of this shape in which all of a group have the group's value."""

    def candidates(self, scores: Tensor) -> Tensor | None:
        """Return which groups of ``[rows, groups]`` may go at most, ``None`` for all of them."""

    def holds(self, gone: Tensor) -> bool:
        """Return whether the groups that are gone, ``[rows, groups]``, lie as it wants them."""


@dataclass(frozen=True)
class Tiles:
    """LPOT's tiles: ``rows`` x ``columns`` over the last two dimensions of a weight.

    Those are outputs and inputs of a linear layer, and the kernel of a 2-D convolution.

    Example::

        Tiles(2, 2).reduce(torch.ones(4, 6), transposed=False)  # 2 x 3 fours
    """

    rows: int = 1
    columns: int = 1

    def misfit(self, shape: tuple[int, ...], transposed: bool) -> str | None:
        """Return why a weight of this shape does not divide into tiles."""
        height, width = shape[-2:]
        if height % self.rows or width % self.columns:
            return f"its last two dimensions are {height}x{width}"
        return None

    def reduce(self, values: Tensor, transposed: bool) -> Tensor:
        """Return the sum of each tile, ``[rows, tiles]``."""
        if self.rows == self.columns == 1:
            return values.reshape(values.shape[0], -1)
        return _tile_sums(values, self.rows, self.columns).flatten(1)

    def expand(self, groups: Tensor, shape: tuple[int, ...], transposed: bool) -> Tensor:
        """Return the tiles spread over a weight of this shape."""
        tiles = groups.reshape(*shape[:-2], shape[-2] // self.rows, shape[-1] // self.columns)
        return _spread(tiles, self.rows, self.columns)

    def candidates(self, scores: Tensor) -> Tensor | None:
        """Return ``None``: any tile may go."""
        return None

    def holds(self, gone: Tensor) -> bool:
        """Return ``True``: any tile may go."""
        return True


@dataclass(frozen=True)
class Blocks:
    """Blocks of ``rows`` outputs x ``columns`` inputs, at each place of a kernel by itself.

    These are the blocks that a matrix product with channels innermost can leave out.

    Example::

        Blocks(4, 1).reduce(torch.ones(8, 3, 5, 5), transposed=False).shape  # 2 rows of 75 blocks
    """

    rows: int
    columns: int

    def misfit(self, shape: tuple[int, ...], transposed: bool) -> str | None:
        """Return why a weight of this shape does not divide into blocks."""
        inputs, outputs = shape[:2] if transposed else (shape[1], shape[0])
        if outputs % self.rows or inputs % self.columns:
            return f"it has {outputs} outputs x {inputs} inputs"
        return None

    def reduce(self, values: Tensor, transposed: bool) -> Tensor:
        """Return the sum of each block, ``[rows, blocks]``."""
        sums = _tile_sums(_places_first(values, transposed), self.rows, self.columns)
        return sums.movedim(1, 0).flatten(1)

    def expand(self, groups: Tensor, shape: tuple[int, ...], transposed: bool) -> Tensor:
        """Return the blocks spread over a weight of this shape."""
        inputs, outputs = shape[:2] if transposed else (shape[1], shape[0])
        blocks = groups.reshape(outputs // self.rows, -1, inputs // self.columns).movedim(0, 1)
        return _places_last(_spread(blocks, self.rows, self.columns), shape, transposed)

    def candidates(self, scores: Tensor) -> Tensor | None:
        """Return ``None``: any block may go."""
        return None

    def holds(self, gone: Tensor) -> bool:
        """Return ``True``: any block may go."""
        return True


@dataclass(frozen=True)
class NOfM:
    """At most ``kept`` of each ``of`` inputs in a row are not zero, as ``2:4`` of sparse kernels.

    On the way there the weights that go first are the lowest among those that will have to go.
    Inputs are counted at each place of a kernel by itself (Mishra et al., "Accelerating sparse deep
    neural networks", 2021).

    Example::

        NOfM(2, 4).candidates(torch.tensor([[4.0, 1.0, 3.0, 2.0]]))  # the second and the fourth
    """

    kept: int
    of: int

    def misfit(self, shape: tuple[int, ...], transposed: bool) -> str | None:
        """Return why a weight of this shape does not divide into runs of ``of`` inputs."""
        inputs = shape[0] if transposed else shape[1]
        return f"it has {inputs} inputs" if inputs % self.of else None

    def reduce(self, values: Tensor, transposed: bool) -> Tensor:
        """Return the values, ``[outputs, places x inputs]``: each is a group of its own."""
        return _places_first(values, transposed).movedim(1, 0).flatten(1)

    def expand(self, groups: Tensor, shape: tuple[int, ...], transposed: bool) -> Tensor:
        """Return the values as a weight of this shape."""
        inputs, outputs = shape[:2] if transposed else (shape[1], shape[0])
        places = groups.reshape(outputs, -1, inputs).movedim(0, 1)
        return _places_last(places, shape, transposed)

    def candidates(self, scores: Tensor) -> Tensor | None:
        """Return the lowest ``of - kept`` of each run."""
        runs = scores.reshape(-1, self.of)
        lowest = runs.argsort(dim=1, stable=True)[:, : self.of - self.kept]
        return torch.zeros_like(runs, dtype=torch.bool).scatter_(1, lowest, True).view_as(scores)

    def holds(self, gone: Tensor) -> bool:
        """Return whether each run has as many zeros as it is to have."""
        return bool((gone.reshape(-1, self.of).sum(dim=1) >= self.of - self.kept).all())


def pattern_of(text: str) -> Pattern:
    """Return the pattern that a checked YAML names: ``tile_pattern_2x2``, ``4x1`` or ``2:4``."""
    if ":" in text:
        kept, of = map(int, text.split(":"))
        return NOfM(kept, of)
    rows, columns = map(int, text.removeprefix("tile_pattern_").split("x"))
    return Tiles(rows, columns) if text.startswith("tile_pattern_") else Blocks(rows, columns)


def _tile_sums(values: Tensor, rows: int, columns: int) -> Tensor:
    """Return the sums of tiles over the last two dimensions."""
    *lead, height, width = values.shape
    tiles = values.reshape(*lead, height // rows, rows, width // columns, columns)
    return tiles.sum(dim=(-3, -1))


def _spread(tiles: Tensor, rows: int, columns: int) -> Tensor:
    return tiles.repeat_interleave(rows, dim=-2).repeat_interleave(columns, dim=-1)


def _places_first(values: Tensor, transposed: bool) -> Tensor:
    """Return ``[places of the kernel, outputs, inputs]``."""
    outputs_first = values.transpose(0, 1) if transposed else values
    return outputs_first.reshape(*outputs_first.shape[:2], -1).movedim(2, 0)


def _places_last(values: Tensor, shape: tuple[int, ...], transposed: bool) -> Tensor:
    """Undo ``_places_first``."""
    outputs_first = values.movedim(0, 2)
    back = outputs_first.transpose(0, 1) if transposed else outputs_first
    return back.reshape(shape)
