"""Pruners of single tensors: which groups of weights go next."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from lpot_lightning.conf.schema import PrunerConf
from lpot_lightning.errors import ConfError, PruningError
from lpot_lightning.pruning.importance import GradientSensitivity, Magnitude
from lpot_lightning.pruning.mask_ranking import lowest, lowest_in_rows, lowest_of_all, share_of
from lpot_lightning.pruning.masks import Masks
from lpot_lightning.pruning.patterns import pattern_of
from lpot_lightning.pruning.weights import Weight


@dataclass(frozen=True, kw_only=True)
class LayerSparsity:
    """How sparse one parameter is.

    Args:
        name: of the parameter.
        shape: of it.
        sparsity: share of its elements that are zero.
        target: what it was to become; ``None`` where only the whole has a target.
        pattern: what goes together.
    """

    name: str
    shape: tuple[int, ...]
    sparsity: float
    target: float | None
    pattern: str

    @property
    def elements(self) -> int:
        """How many weights it has."""
        return torch.Size(self.shape).numel()


class Pruner(Protocol):
    """One ``!Pruner`` at work."""

    @property
    def weights(self) -> Sequence[Weight]:
        """What it prunes."""

    @property
    def needs_gradients(self) -> bool:
        """Whether ``observe`` has to be called after each backward pass."""

    def begin(self) -> None:
        """Do what is done once, before the first epoch of a training that is new."""

    def observe(self, only: Collection[int] | None) -> None:
        """Take in the gradients that are there; ``only`` of parameters with these ``id``s."""

    def prune_to(self, sparsity: float) -> None:
        """Prune what matters least until this share is zero; what is pruned stays so."""

    def refit(self, changed: Weight) -> None:
        """Make ready for a weight that has another shape now, or raise an ``LpotError``."""

    def is_reached(self, values: Mapping[str, Tensor], sparsity: float) -> bool:
        """Return whether this share is zero in ``values``, by counting."""

    def layers(self, values: Mapping[str, Tensor]) -> list[LayerSparsity]:
        """Return how sparse its parameters are, whose ``values`` may be those of another model."""

    def state(self) -> dict[str, Any]:
        """Return plain tensors to go on with."""

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` gave; ``ArtifactError`` if it is damaged."""

    def close(self) -> None:
        """Take hooks out of the model."""


class WeightPruner:
    """Prunes groups of weights by magnitude or by gradient.

    Args:
        conf: with all values filled in.
        weights: what it prunes.
        masks: what it writes to.
        place: of the pruner in the YAML, for people.

    Raises:
        ConfError: if the pattern does not divide a weight.
    """

    def __init__(
        self, conf: PrunerConf, weights: Sequence[Weight], masks: Masks, place: str
    ) -> None:
        self._conf, self._masks, self._place = conf, masks, place
        self.weights = weights
        self._pattern = pattern_of(conf.pattern)
        kind = GradientSensitivity if conf.prune_type == "gradient_sensitivity" else Magnitude
        self._importance = kind(weights, self._pattern)
        self._check_fit()

    def _check_fit(self) -> None:
        misfits = [
            f"`{one.name}` ({why})"
            for one in self.weights
            if (why := self._pattern.misfit(tuple(one.value.shape), one.transposed))
        ]
        if misfits:
            more = f" and {len(misfits) - 4} more" if len(misfits) > 4 else ""
            raise ConfError(
                f"`{self._place}.pattern` is `{self._conf.pattern}`, which does not divide"
                f" {', '.join(misfits[:4])}{more}: take another pattern, or leave them out by"
                " `excluded_names`"
            )

    @property
    def needs_gradients(self) -> bool:
        """Whether the importance comes from gradients."""
        return self._importance.needs_gradients

    def begin(self) -> None:
        """Prune nothing yet."""

    def observe(self, only: Collection[int] | None) -> None:
        """Take in the gradients that are there."""
        self._importance.observe(only)

    def prune_to(self, sparsity: float) -> None:
        """Prune the groups that matter least until this share of them is zero."""
        scores = [self._scores(weight) for weight in self.weights]
        for weight, chosen in zip(self.weights, self._chosen(scores, sparsity), strict=True):
            shape = tuple(weight.value.shape)
            self._masks.prune(weight.name, self._pattern.expand(chosen, shape, weight.transposed))
        self._importance.begin_anew()

    def refit(self, changed: Weight) -> None:
        """Let the pattern divide a weight of another shape, too."""
        self._check_fit()

    def is_reached(self, values: Mapping[str, Tensor], sparsity: float) -> bool:
        """Return whether so many groups are zero, and lie as the pattern wants them."""
        gone = [self._zero(values[one.name], one.transposed) for one in self.weights]
        if self._conf.prune_domain == "global":
            total = sum(one.numel() for one in gone)
            enough = sum(int(one.sum()) for one in gone) >= share_of(total, sparsity)
        else:
            enough = all(self._is_enough(one, share_of(one.numel(), sparsity)) for one in gone)
        return enough and all(map(self._pattern.holds, gone))

    def _is_enough(self, gone: Tensor, count: int) -> bool:
        """Return whether so many groups are gone, from each row as many where that is asked for."""
        rows = gone.sum(dim=1)
        even = self._conf.method != "per_channel" or int(rows.min()) >= count // len(rows)
        return even and int(rows.sum()) >= count

    def _zero(self, value: Tensor, transposed: bool) -> Tensor:
        return self._pattern.reduce((value.detach() != 0).float(), transposed) == 0

    def _scores(self, weight: Weight) -> Tensor:
        """Return the importance of groups; of those that are pruned already -1, so that they stay.

        What the pattern does not let go has no end of importance.
        """
        kept = (~self._masks.pruned(weight.name)).float()
        gone = self._pattern.reduce(kept, weight.transposed) == 0
        scores = self._importance.of(weight).masked_fill(gone, -1.0)
        candidates = self._pattern.candidates(scores)
        return scores if candidates is None else scores.masked_fill(~candidates, torch.inf)

    def _chosen(self, scores: list[Tensor], sparsity: float) -> list[Tensor]:
        if self._conf.prune_domain == "global":
            total = sum(one.numel() for one in scores)
            return lowest_of_all(scores, share_of(total, sparsity))
        choose = lowest_in_rows if self._conf.method == "per_channel" else lowest
        return [choose(one, share_of(one.numel(), sparsity)) for one in scores]

    def layers(self, values: Mapping[str, Tensor]) -> list[LayerSparsity]:
        """Return how sparse its weights are."""
        target = None if self._conf.prune_domain == "global" else self._conf.target_sparsity
        return [
            LayerSparsity(
                name=weight.name,
                shape=tuple(weight.value.shape),
                sparsity=sparsity_of(values[weight.name]),
                target=target,
                pattern=self._conf.pattern,
            )
            for weight in self.weights
        ]

    def state(self) -> dict[str, Any]:
        """Return what the importance was summed up to."""
        return self._importance.state()

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` gave."""
        self._importance.load(state)

    def close(self) -> None:
        """Do nothing: there are no hooks."""


class PatternLock:
    """LPOT's ``pattern_lock``: the zeros that are there when a training begins stay."""

    needs_gradients = False

    def __init__(self, weights: Sequence[Weight], masks: Masks, place: str) -> None:
        self.weights, self._masks = weights, masks
        self._place = place

    def begin(self) -> None:
        """Take the zeros of the weights for what is pruned.

        Raises:
            ConfError: if there is none.
        """
        for weight in self.weights:
            self._masks.prune(weight.name, weight.value.detach() == 0)
        if not any(bool((weight.value == 0).any()) for weight in self.weights):
            raise ConfError(
                f"`{self._place}` is a `pattern_lock`, and none of its weights is zero when the"
                " training begins: give it a model that was pruned"
            )

    def observe(self, only: Collection[int] | None) -> None:
        """Take nothing in."""

    def prune_to(self, sparsity: float) -> None:
        """Prune nothing more."""

    def refit(self, changed: Weight) -> None:
        """Refuse a weight of another shape, whose zeros nobody knows."""
        raise other_shape(changed, "the zeros that were there")

    def is_reached(self, values: Mapping[str, Tensor], sparsity: float) -> bool:
        """Return whether all that was zero when the training began is."""
        locked = [(self._masks.pruned(one.name), values[one.name]) for one in self.weights]
        return not any(bool((value[zero.to(value.device)] != 0).any()) for zero, value in locked)

    def layers(self, values: Mapping[str, Tensor]) -> list[LayerSparsity]:
        """Return how sparse its weights are, which is their target."""
        found = [(one, float(self._masks.pruned(one.name).float().mean())) for one in self.weights]
        return [
            LayerSparsity(
                name=one.name,
                shape=tuple(one.value.shape),
                sparsity=sparsity_of(values[one.name]),
                target=share,
                pattern="locked",
            )
            for one, share in found
        ]

    def state(self) -> dict[str, Any]:
        """Return nothing: the masks are all."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take nothing up."""

    def close(self) -> None:
        """Do nothing: there are no hooks."""


def sparsity_of(weight: Tensor) -> float:
    """Return the share of elements that are zero."""
    return 1 - int(weight.detach().count_nonzero()) / max(1, weight.numel())


def other_shape(changed: Weight, what: str) -> PruningError:
    """Return the error for a weight that was exchanged for one that ``what`` cannot be found in."""
    return PruningError(
        f"`{changed.name}` was exchanged for a parameter of shape {list(changed.value.shape)} while"
        f" it is pruned, and {what} were chosen for another shape: exchange it before the fit, or"
        " leave it out by `excluded_names`"
    )
