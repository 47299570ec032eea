"""Whole channels that go, of all layers that share them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.conf.schema import PrunerConf
from lpot_lightning.errors import ArtifactError, ConfError
from lpot_lightning.pruning.channels.group import ChannelGroups, Group
from lpot_lightning.pruning.channels.importance import group_magnitude, group_taylor
from lpot_lightning.pruning.mask_ranking import lowest, lowest_of_all, share_of
from lpot_lightning.pruning.masks import Masks
from lpot_lightning.pruning.parameters import Parameters
from lpot_lightning.pruning.pruners import LayerSparsity, other_shape, sparsity_of
from lpot_lightning.pruning.weights import Weight


class ChannelPruner:
    """Prunes channels by groups: layers that are added to each other lose the same ones.

    While the model trains, what gives a pruned channel is zero: weights, biases and the norm behind
    them. One channel of each group always stays. ``kept`` says what a smaller model is cut by.

    Args:
        conf: with all values filled in.
        weights: what may be pruned; a group is, if a weight that gives its channels is among them.
        masks: what it writes to.
        model: whose parameters are looked at.
        found: the groups of the model.
        place: of the pruner in the YAML, for people.
        frozen: names of the parameters that nothing trains; unasked, no channel goes that one of
            their weights gives, too.

    Attributes:
        held: the groups that are not pruned for that.

    Raises:
        ConfError: if a named weight is in no group, or there is no group at all.
    """

    def __init__(
        self,
        conf: PrunerConf,
        weights: Sequence[Weight],
        masks: Masks,
        model: nn.Module,
        found: ChannelGroups,
        place: str,
        frozen: Collection[str] = (),
    ) -> None:
        self._conf, self._masks, self._place = conf, masks, place
        self._parameters = Parameters(model)
        self.held: list[str] = []
        known = self._parameters
        self._frozen = {one for one in frozen if one in known and known[one].dim() > 1}
        self._groups = self._chosen_groups(weights, found)
        self._gone = {one.name: torch.zeros(one.n, dtype=torch.bool) for one in self._groups}
        self._sums: dict[str, Tensor] = {}

    def _chosen_groups(self, weights: Sequence[Weight], found: ChannelGroups) -> list[Group]:
        wanted = {weight.name for weight in weights}
        groups = [group for group in found if wanted & {part.name for part in group.zeroed}]
        given = {part.name for group in groups for part in group.zeroed}
        missing = sorted(wanted - given) if self._conf.names else []
        if missing:
            layer = missing[0].rpartition(".")[0]
            why = found.excluded.get(layer, "its channels could not be followed")
            raise ConfError(
                f"`{self._place}.names` has `{missing[0]}`, of which no channel can be cut: {why}"
            )
        if not self._conf.names:
            untrained = self._frozen - wanted
            held = [g for g in groups if untrained & {part.name for part in g.zeroed}]
            self.held = [group.name for group in held]
            groups = [group for group in groups if group not in held]
        if not groups:
            reasons = "; ".join(f"`{name}`: {why}" for name, why in found.excluded.items())
            raise ConfError(f"`{self._place}` finds no channel that can be cut: {reasons}")
        return groups

    @property
    def weights(self) -> list[Weight]:
        """What it prunes, and what reads that."""
        parts = [part for group in self._groups for part in (*group.zeroed, *group.read)]
        names = dict.fromkeys(part.name for part in parts if part.name in self._parameters)
        return [Weight(name, self._parameters) for name in names]

    def refit(self, changed: Weight) -> None:
        """Refuse a weight of another shape."""
        raise other_shape(changed, "channels")

    @property
    def needs_gradients(self) -> bool:
        """Whether the importance comes from gradients."""
        return self._conf.prune_type == "gradient_sensitivity"

    @property
    def groups(self) -> Sequence[Group]:
        """The groups that are pruned."""
        return self._groups

    @property
    def kept(self) -> dict[str, Tensor]:
        """Which channels of each group stay, bool."""
        return {name: ~gone for name, gone in self._gone.items()}

    def begin(self) -> None:
        """Prune nothing yet."""

    @torch.no_grad()
    def observe(self, only: Collection[int] | None) -> None:
        """Take in the gradients that are there."""
        if not self.needs_gradients:
            return
        gradients = {
            name: one.grad
            for name, one in self._parameters.items()
            if one.grad is not None and (only is None or id(one) in only)
        }
        for group in self._groups:
            found = group_taylor(self._parameters, gradients, group).nan_to_num(0.0, 0.0).cpu()
            before = self._sums.get(group.name)
            self._sums[group.name] = found if before is None else before + found

    def prune_to(self, sparsity: float) -> None:
        """Prune the channels that matter least until this share of them is zero."""
        scores = [self._scores(group) for group in self._groups]
        for group, chosen in zip(self._groups, self._chosen(scores, sparsity), strict=True):
            self._gone[group.name] = chosen
            for part in group.zeroed:
                value = self._parameters[part.name]
                pruned = torch.zeros_like(value, dtype=torch.bool)
                indices = part.index[chosen].flatten().to(value.device)
                self._masks.prune(part.name, pruned.index_fill_(part.dim, indices, True))
        self._sums = {}

    def _scores(self, group: Group) -> Tensor:
        """Return the importance of channels: of pruned ones -1, of the one that stays no end."""
        if self.needs_gradients:
            scores = self._sums[group.name]
        else:
            scores = group_magnitude(self._parameters, group).cpu()
        scores = scores.masked_fill(self._gone[group.name], -1.0)
        scores[scores.argmax()] = torch.inf
        return scores

    def _chosen(self, scores: list[Tensor], sparsity: float) -> list[Tensor]:
        if self._conf.prune_domain == "global":
            total = sum(one.numel() for one in scores)
            return lowest_of_all(scores, min(share_of(total, sparsity), total - len(scores)))
        return [lowest(one, min(share_of(len(one), sparsity), len(one) - 1)) for one in scores]

    def is_reached(self, values: Mapping[str, Tensor], sparsity: float) -> bool:
        """Return whether so many channels are zero in all that gives them."""
        gone = [_zero(group, values) for group in self._groups]
        if self._conf.prune_domain == "global":
            total = sum(group.n for group in self._groups)
            return sum(gone) >= min(share_of(total, sparsity), total - len(gone))
        return all(
            count >= min(share_of(group.n, sparsity), group.n - 1)
            for count, group in zip(gone, self._groups, strict=True)
        )

    def layers(self, values: Mapping[str, Tensor]) -> list[LayerSparsity]:
        """Return how sparse the weights are that give the channels."""
        target = None if self._conf.prune_domain == "global" else self._conf.target_sparsity
        names = {part.name: None for group in self._groups for part in group.zeroed}
        return [
            LayerSparsity(
                name=name,
                shape=tuple(values[name].shape),
                sparsity=sparsity_of(values[name]),
                target=target,
                pattern="channel",
            )
            for name in names
            if values[name].dim() > 1
        ]

    def state(self) -> dict[str, Any]:
        """Return which channels are gone, and what was summed up."""
        return {"gone": dict(self._gone), "sums": dict(self._sums)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` gave.

        Raises:
            ArtifactError: if it is damaged, or the model has other groups now.
        """
        gone, sums = state.get("gone"), state.get("sums")
        if not isinstance(gone, Mapping) or set(gone) != set(self._gone):
            raise ArtifactError(
                f"the checkpoint was pruned in other groups of channels than `{self._place}` finds"
            )
        for group in self._groups:
            found = gone[group.name]
            if not isinstance(found, Tensor) or found.shape != (group.n,):
                raise ArtifactError(f"the channels of `{group.name}` in the checkpoint are damaged")
            self._gone[group.name] = found.cpu().bool()
        self._sums = dict(sums) if isinstance(sums, Mapping) else {}

    def close(self) -> None:
        """Do nothing: there are no hooks."""


def _zero(group: Group, values: Mapping[str, Tensor]) -> int:
    """Return how many channels of a group are zero."""
    given = [(part.of(values[part.name].detach()) == 0).all(dim=1) for part in group.zeroed]
    return int(torch.stack([one.cpu() for one in given]).all(dim=0).sum())
