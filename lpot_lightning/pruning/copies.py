"""Second copies of a model's weights, and how they are named in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from lpot_lightning.errors import PruningError, quoted
from lpot_lightning.pruning.untrained import modules_above

Shapes = Mapping[str, torch.Size]


def tensors_of(copy: nn.Module | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the parameters of a copy by name, those of a ``state_dict`` as they are.

    Raises:
        PruningError: if it is neither a module nor a mapping.
    """
    if isinstance(copy, AveragedModel):  # torch's own average has the copy inside
        copy = copy.module
    if isinstance(copy, nn.Module):
        return dict(copy.named_parameters(remove_duplicate=False))
    if not isinstance(copy, Mapping):
        raise PruningError(
            f"what the masks are to be applied to is a `{type(copy).__name__}`: give a copy of the"
            " model or of a module in it, or the `state_dict` of one"
        )
    return copy


def prefix_of(tensors: Mapping[str, Tensor], masked: Iterable[str], shapes: Shapes) -> str:
    """Return what precedes the names of a copy in those of the model; ``""`` for all of it.

    Args:
        tensors: of the copy.
        masked: the names in the model that count.
        shapes: of all parameters of the model.

    Raises:
        PruningError: if it is no copy of the model, and none or several of its modules fit.
    """
    masked = list(masked)
    if all(_fits(tensors, name, shapes[name]) for name in masked):
        return ""
    paths = {f"{path}.": None for name in masked for path in modules_above(name)}
    sizes: dict[str, int] = {}
    for start in paths:
        inside = [name for name in shapes if name.startswith(start)]
        if all(_fits(tensors, name.removeprefix(start), shapes[name]) for name in inside):
            sizes[start] = len(inside)
    largest = [start for start, size in sizes.items() if size == max(sizes.values())]
    if len(largest) > 1:
        alike = quoted([start[:-1] for start in largest], 4)
        raise PruningError(f"this can be a copy of {alike}: say of which by `path`")
    if not largest:
        check_copy(tensors, masked, shapes, "")
    return largest[0]


def check_copy(
    tensors: Mapping[str, Tensor], masked: Iterable[str], shapes: Shapes, prefix: str
) -> None:
    """Raise a ``PruningError`` if a copy lacks what is masked, or has it in another shape."""
    for name in masked:
        inner = name.removeprefix(prefix)
        if not _fits(tensors, inner, shapes[name]):
            found = tensors.get(inner)
            has = "has no" if found is None else f"has {list(found.shape)} as"
            raise PruningError(
                f"what the masks are to be applied to {has} `{inner}`, and {list(shapes[name])} is"
                " pruned: give a copy of the model or of a module in it, or the `state_dict` of one"
            )


def _fits(tensors: Mapping[str, Tensor], name: str, shape: torch.Size) -> bool:
    found = tensors.get(name)
    return isinstance(found, Tensor) and found.shape == shape
