"""Rows or columns that go together in several parameters: attention heads, neurons."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.conf.schema import PrunerConf
from lpot_lightning.errors import ConfError
from lpot_lightning.pruning.head_importance import HeadImportance
from lpot_lightning.pruning.mask_ranking import lowest, lowest_of_all, share_of
from lpot_lightning.pruning.masks import Masks
from lpot_lightning.pruning.pruners import LayerSparsity, other_shape, sparsity_of
from lpot_lightning.pruning.weights import Weight


class HeadPruner:
    """LPOT's ``gradient_sensitivity`` with ``parameters``: rows go in groups of ``stride``.

    The first ``*`` in a name is the layer. All names of one layer lose the same groups; with
    ``transpose`` those are columns. ``target`` is the number of groups that stay.

    LPOT cut the parameters and left their modules with the old sizes; here groups are zeroed, and
    the model works as it is.

    Args:
        conf: with all values filled in, and ``parameters``.
        weights: what it prunes.
        masks: what it writes to.
        model: to look for ``importance_inputs`` in.
        place: of the pruner in the YAML, for people.

    Raises:
        ConfError: if the groups do not divide a weight, or ``importance_inputs`` match nothing.
    """

    needs_gradients = True

    def __init__(
        self,
        conf: PrunerConf,
        weights: Sequence[Weight],
        masks: Masks,
        model: nn.Module,
        place: str,
    ) -> None:
        self._conf, self._masks, self._place = conf, masks, place
        self._asked: Mapping[str, Any] = conf.parameters or {}
        self._stride = self._asked.get("stride", 1)
        self._dim = 1 if self._asked.get("transpose", False) else 0
        self._layers = _by_layer(weights)
        self._groups = {layer: self._count(those) for layer, those in self._layers.items()}
        self._check_target()
        self._importance = HeadImportance(self._asked, self._groups, self._layers, model, place)

    @property
    def weights(self) -> list[Weight]:
        """What it prunes."""
        return [one for those in self._layers.values() for one in those]

    def refit(self, changed: Weight) -> None:
        """Refuse a weight of another shape."""
        raise other_shape(changed, "groups of rows or columns")

    def _count(self, weights: Sequence[Weight]) -> int:
        """Return the number of groups of a layer."""
        counts: dict[str, int] = {}
        for weight in weights:
            if weight.value.dim() <= self._dim or weight.value.shape[self._dim] % self._stride:
                raise ConfError(
                    f"`{self._place}.parameters.stride` is `{self._stride}`, which does not divide"
                    f" dimension {self._dim} of `{weight.name}`, {list(weight.value.shape)}"
                )
            counts[weight.name] = weight.value.shape[self._dim] // self._stride
        if len(set(counts.values())) > 1:
            told = ", ".join(f"`{name}` has {count}" for name, count in counts.items())
            raise ConfError(f"`{self._place}` prunes the same groups of all its names, and {told}")
        return next(iter(counts.values()))

    def _check_target(self) -> None:
        target, least = self._asked.get("target"), min(self._groups.values())
        if target is not None and target > least:
            raise ConfError(
                f"`{self._place}.parameters.target` is `{target}`, and there are {least} groups of"
                f" {self._stride}; allowed: the number of groups to keep"
            )

    def begin(self) -> None:
        """Prune nothing yet."""

    def observe(self, only: Collection[int] | None) -> None:
        """Take in the gradients that are there."""
        self._importance.observe(only)

    def prune_to(self, sparsity: float) -> None:
        """Prune the groups that matter least until this share of them is zero.

        Where ``target`` says how many stay, a sparsity of 1 means that many.

        Raises:
            PruningError: if no gradient was seen.
        """
        scores = {
            layer: self._importance.of(layer).masked_fill(self._gone(layer), -1.0)
            for layer in self._layers
        }
        for layer, chosen in self._chosen(scores, sparsity).items():
            for weight in self._layers[layer]:
                shape = [1] * weight.value.dim()
                shape[self._dim] = -1
                rows = chosen.repeat_interleave(self._stride).reshape(shape)
                self._masks.prune(weight.name, rows.expand_as(weight.value))
        self._importance.begin_anew()

    def _gone(self, layer: str) -> Tensor:
        weight = self._layers[layer][0]
        kept = (~self._masks.pruned(weight.name)).movedim(self._dim, 0)
        return ~kept.reshape(self._groups[layer], -1).any(dim=1)

    def _chosen(self, scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
        counts = {layer: self._to_go(layer, sparsity) for layer in scores}
        if self._conf.prune_domain == "global":
            found = lowest_of_all(list(scores.values()), sum(counts.values()))
            return dict(zip(scores, found, strict=True))
        return {layer: lowest(one, counts[layer]) for layer, one in scores.items()}

    def _to_go(self, layer: str, sparsity: float) -> int:
        groups, target = self._groups[layer], self._asked.get("target")
        return share_of(groups if target is None else groups - target, sparsity)

    def is_reached(self, values: Mapping[str, Tensor], sparsity: float) -> bool:
        """Return whether so many groups are zero in all weights of their layer."""
        gone = {layer: self._zero(layer, values) for layer in self._layers}
        wanted = {layer: self._to_go(layer, sparsity) for layer in self._layers}
        if self._conf.prune_domain == "global":
            return sum(gone.values()) >= sum(wanted.values())
        return all(gone[layer] >= wanted[layer] for layer in self._layers)

    def _zero(self, layer: str, values: Mapping[str, Tensor]) -> int:
        found = [
            (values[one.name].detach() == 0).movedim(self._dim, 0).reshape(self._groups[layer], -1)
            for one in self._layers[layer]
        ]
        return int(torch.stack([one.all(dim=1) for one in found]).all(dim=0).sum())

    def layers(self, values: Mapping[str, Tensor]) -> list[LayerSparsity]:
        """Return how sparse its weights are."""
        pattern = f"{'columns' if self._dim else 'rows'} x {self._stride}"
        return [
            LayerSparsity(
                name=weight.name,
                shape=tuple(weight.value.shape),
                sparsity=sparsity_of(values[weight.name]),
                target=self._target(layer),
                pattern=pattern,
            )
            for layer, weights in self._layers.items()
            for weight in weights
        ]

    def _target(self, layer: str) -> float | None:
        if self._conf.prune_domain == "global":
            return None
        target = self._asked.get("target")
        return self._conf.target_sparsity if target is None else 1 - target / self._groups[layer]

    def state(self) -> dict[str, Any]:
        """Return what the importance was summed up to."""
        return self._importance.state()

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` gave."""
        self._importance.load(state)

    def close(self) -> None:
        """Take the hooks out of the model."""
        self._importance.close()


def _by_layer(weights: Sequence[Weight]) -> dict[str, list[Weight]]:
    found: dict[str, list[Weight]] = {}
    for weight in weights:
        found.setdefault(weight.layer, []).append(weight)
    return found
