"""Keeping what was pruned at zero."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lpot_lightning.errors import ArtifactError, PruningError
from lpot_lightning.pruning.copies import check_copy, prefix_of, tensors_of
from lpot_lightning.pruning.parameters import Parameters


class Masks:
    """Which weights of a model are kept; the others are zero, in place.

    The parameters stay the same objects: optimizers, tying and DDP see no change. Who exchanges one
    for another of the same name has that masked.

    Args:
        model: whose parameters they are.

    Example::

        masks = Masks(model)
        masks.prune("net.head.weight", model.net.head.weight.abs() < 0.01)
        masks.apply()
    """

    def __init__(self, model: nn.Module) -> None:
        self._parameters = Parameters(model)
        self._tied = _tied(self._parameters)
        self._masked: dict[str, Tensor] = {}
        self._kept: dict[str, Tensor] = {}  # of the weight's own type: four times as fast as bool

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def pruned(self, name: str) -> Tensor:
        """Return which weights of a parameter are pruned, a bool tensor of its shape."""
        if name in self._kept:
            return self._kept[name] == 0
        return torch.zeros_like(self._parameters[name], dtype=torch.bool)

    def prune(self, name: str, pruned: Tensor) -> None:
        """Prune these weights of a parameter from now on, besides those that are already."""
        weight = self._masked[name] = self._parameters[name]
        kept = (~(pruned | self.pruned(name))).to(weight.dtype)
        self._kept[name] = kept.contiguous(memory_format=_format_of(weight))

    def exchanged(self) -> list[str]:
        """Return what is another parameter than when this was last asked."""
        now = {name: self._parameters[name] for name in self._kept}
        found = [name for name, value in now.items() if value is not self._masked[name]]
        self._masked = {**now}
        return found

    def forget(self, name: str) -> None:
        """Let all weights of a parameter be kept again."""
        self._kept.pop(name, None)
        self._masked.pop(name, None)

    @torch.no_grad()
    def apply(self) -> None:
        """Make what is pruned zero."""
        for name, kept in self._kept.items():
            weight = self._parameters[name]
            if kept.device != weight.device:  # Lightning moves the model when a fit ends
                kept = self._kept[name] = kept.to(weight.device)
            weight.mul_(kept)
            for other in self._tied.get(name, ()):
                if (untied := self._parameters[other]) is not weight:
                    untied.mul_(kept)

    @torch.no_grad()
    def apply_to(self, other: nn.Module | Mapping[str, Tensor], path: str | None = None) -> None:
        """Make what is pruned zero in a second copy of the weights, as an average of your own.

        Args:
            other: a copy of the model, or of a module in it, or the ``state_dict`` of one.
            path: of that module in the model, ``""`` for all of it; by default it is told by the
                names and shapes of the parameters.

        Raises:
            PruningError: if it is no such copy, or could be one of several; nothing is changed.

        Example::

            masks.apply_to(ema.module)
        """
        tensors = tensors_of(other)
        shapes = {name: value.shape for name, value in self._parameters.items()}
        start = prefix_of(tensors, self, shapes) if path is None else f"{path}.".lstrip(".")
        inside = [name for name in self if name.startswith(start)]
        if self._kept and not inside:
            raise PruningError(f"`path` is `{path}`, and nothing in it is pruned")
        check_copy(tensors, inside, shapes, start)
        for name in inside:
            for one in (name, *self._tied.get(name, ())):
                found = tensors.get(one.removeprefix(start))
                if found is not None:
                    found.mul_(self._kept[name].to(found))

    def hold_in(self, state: Mapping[str, Any]) -> bool:
        """Return whether all that is pruned is zero in a ``state_dict``."""
        return all(
            name in state
            and state[name].shape == kept.shape
            and not bool((state[name].cpu()[(kept == 0).cpu()] != 0).any())
            for first, kept in self._kept.items()
            for name in (first, *(one for one in self._tied.get(first, ()) if one in state))
        )

    def are(self, state: object) -> bool:
        """Return whether ``state`` gives these masks."""
        own = self.state()
        if not isinstance(state, Mapping) or state.keys() != own.keys():
            return False
        return all(_is_same(state[name], one["kept"]) for name, one in own.items())

    def tensors(self) -> list[Tensor]:
        """Return the masks themselves, ones and zeros, in a fixed order."""
        return list(self._kept.values())

    def state(self) -> dict[str, Any]:
        """Return plain tensors, a bit a weight, that ``load`` takes."""
        return {
            name: {"shape": list(kept.shape), "kept": _packed(kept != 0)}
            for name, kept in self._kept.items()
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` gave.

        Raises:
            ArtifactError: if it is damaged, or of another model.
        """
        self._kept, self._masked = {}, {}
        for name, saved in state.items():
            if name not in self._parameters:
                raise ArtifactError(f"the checkpoint has a mask of `{name}`, the model has not")
            weight = self._parameters[name]
            if not isinstance(saved, Mapping) or saved.get("shape") != list(weight.shape):
                raise ArtifactError(
                    f"the mask of `{name}` in the checkpoint is not of shape {list(weight.shape)}"
                )
            self.prune(name, ~_unpacked(saved.get("kept"), weight, name))


def _tied(parameters: Parameters) -> dict[str, list[str]]:
    """Return the other names of parameters that have several: they may be untied later."""
    names: dict[int, list[str]] = {}
    for name, value in parameters.items():
        names.setdefault(id(value), []).append(name)
    return {
        name: [other for other in alike if other != name]
        for alike in names.values()
        if len(alike) > 1
        for name in alike
    }


def _format_of(weight: Tensor) -> torch.memory_format:
    """Return how a weight lies in memory: a mask that lies otherwise is several times as slow."""
    for known in (torch.channels_last, torch.channels_last_3d):
        if weight.dim() == {torch.channels_last: 4}.get(known, 5) and (
            weight.is_contiguous(memory_format=known) and not weight.is_contiguous()
        ):
            return known
    return torch.contiguous_format


def _is_same(saved: object, kept: Tensor) -> bool:
    found = saved.get("kept") if isinstance(saved, Mapping) else None
    return isinstance(found, Tensor) and torch.equal(found, kept)


def _packed(kept: Tensor) -> Tensor:
    return torch.from_numpy(np.packbits(kept.cpu().numpy().reshape(-1)))


def _unpacked(bits: object, weight: Tensor, name: str) -> Tensor:
    count = weight.numel()
    if not isinstance(bits, Tensor) or bits.dtype != torch.uint8 or bits.numel() * 8 < count:
        raise ArtifactError(f"the mask of `{name}` in the checkpoint is damaged")
    kept = np.unpackbits(bits.cpu().numpy(), count=count).astype(bool)
    return torch.from_numpy(kept).reshape(weight.shape).to(weight.device)
