"""How much each head of each layer matters."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.errors import ArtifactError, ConfError, PruningError
from lpot_lightning.pruning.arguments import ArgumentGradients
from lpot_lightning.pruning.parameters import Parameters
from lpot_lightning.pruning.weights import Weight


class HeadImportance:
    """The importance of groups of rows, by LPOT's ``importance_metric``, summed up over steps.

    - ``abs_gradient``: ``|dL/dx[index, k]|`` of a tensor that ``forward`` is given under the name
      in ``importance_inputs``, of shape layers x groups (``head_mask``; Michel et al., "Are sixteen
      heads really better than one?", 2019). ``index`` is the number of the layer.
    - ``weighted_gradient``, the default: ``|sum of w * dL/dw|`` over the rows of a group and over
      the parameters in ``importance_inputs``, or over those that are pruned.

    ``normalize`` divides by the L2 norm over a layer, which counts where layers are ranked together
    (``prune_domain: global``).

    Args:
        asked: ``parameters`` of the pruner.
        groups: the number of groups of each layer.
        own: the pruned weights of each layer.
        model: to look for ``importance_inputs`` in.
        place: of the pruner in the YAML, for people.

    Raises:
        ConfError: if ``importance_inputs`` match nothing that fits.
    """

    def __init__(
        self,
        asked: Mapping[str, Any],
        groups: Mapping[str, int],
        own: Mapping[str, Sequence[Weight]],
        model: nn.Module,
        place: str,
    ) -> None:
        self._asked, self._groups, self._own, self._place = asked, groups, own, place
        self._sums: dict[str, Tensor] = {}
        self._argument: ArgumentGradients | None = None
        self._summed: dict[str, Sequence[Weight]] = {}
        inputs = tuple(asked.get("importance_inputs", ()))
        if asked.get("importance_metric", "weighted_gradient") == "weighted_gradient":
            stride = asked.get("stride", 1)
            for layer in groups:
                named = self._named(model, layer, inputs, groups[layer] * stride)
                self._summed[layer] = named or own[layer]
        elif len(inputs) == 1:
            self._argument = ArgumentGradients(model, inputs[0], place)
        else:
            raise ConfError(
                f"`{place}.parameters.importance_inputs` has {len(inputs)} names; allowed for"
                " `abs_gradient`: one, of an argument of `forward`"
            )

    def _named(
        self, model: nn.Module, layer: str, inputs: Sequence[str], rows: int
    ) -> list[Weight]:
        """Return the parameters that ``importance_inputs`` name for a layer."""
        known = Parameters(model)
        found = []
        for pattern in inputs:
            name = pattern.replace("*", layer)
            if name not in known or known[name].shape[0] != rows:
                why = f"has {known[name].shape[0]} rows" if name in known else "is no parameter"
                raise ConfError(
                    f"`{self._place}.parameters.importance_inputs` has `{pattern}`, and `{name}`"
                    f" {why}; allowed: parameters of {rows} rows"
                )
            found.append(Weight(name, known))
        return found

    @torch.no_grad()
    def observe(self, only: Collection[int] | None = None) -> None:
        """Take in the gradients that are there; ``only`` of parameters with these ``id``s."""
        for layer, weights in self._summed.items():
            seen = [
                one
                for one in (weight.value for weight in weights)
                if one.grad is not None and (only is None or id(one) in only)
            ]
            if seen:
                self._add(layer, self._weighted(seen, self._groups[layer]))
        if self._argument is not None and self._argument.sum is not None:
            for number, layer in enumerate(self._groups):
                index = int(layer) if layer.isdecimal() else self._asked.get("index", number)
                self._add(layer, self._part(self._argument.sum, index, self._groups[layer]))
            self._argument.begin_anew()

    def _weighted(self, parameters: Sequence[nn.Parameter], groups: int) -> Tensor:
        """Return ``|sum of w * dL/dw|`` of each group, which may be of rows or of columns."""
        found = torch.zeros(groups, device=parameters[0].device)
        stride = self._asked.get("stride", 1)
        for one in parameters:
            assert one.grad is not None
            product = (one * one.grad).float()
            if one.shape[0] != groups * stride:
                product = product.transpose(0, 1)
            found += product.reshape(groups, -1).sum(dim=1)
        return found.abs_().nan_to_num_(0.0, 0.0)

    def _part(self, gradient: Tensor, index: int, groups: int) -> Tensor:
        """Return what belongs to one layer of the gradient of an argument."""
        if gradient.dim() > 1 and index < gradient.shape[0] and gradient[index].numel() == groups:
            return gradient[index].reshape(groups)
        raise PruningError(
            f"the argument that `{self._place}.parameters.importance_inputs` names is of shape"
            f" {list(gradient.shape)}; for layer {index} it has to be of [layers, {groups}]"
        )

    def _add(self, layer: str, found: Tensor) -> None:
        before = self._sums.get(layer)
        self._sums[layer] = found if before is None else before + found

    def of(self, layer: str) -> Tensor:
        """Return the importance of each group of a layer.

        Raises:
            PruningError: if no gradient was seen.
        """
        if layer not in self._sums:
            hint = (
                "give the argument in `training_step` as a tensor with `requires_grad=True`"
                if self._argument
                else f"those of layer `{layer}` are frozen, or the loss does not depend on them"
            )
            raise PruningError(f"`{self._place}` prunes by gradients, and none was seen: {hint}")
        sums = self._sums[layer]
        return sums / (sums.norm() + 1e-20) if self._asked.get("normalize", False) else sums

    def begin_anew(self) -> None:
        """Forget what was summed up."""
        self._sums = {}

    def state(self) -> dict[str, Any]:
        """Return what was summed up."""
        return dict(self._sums)

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` gave.

        Raises:
            ArtifactError: if it is damaged.
        """
        for layer, groups in self._groups.items():
            saved = state.get(layer)
            if saved is not None and (not isinstance(saved, Tensor) or saved.shape != (groups,)):
                raise ArtifactError(f"the sensitivity of layer `{layer}` is damaged")
            if saved is not None:
                self._sums[layer] = saved.to(self._own[layer][0].value.device)

    def close(self) -> None:
        """Take the hooks out of the model."""
        if self._argument is not None:
            self._argument.close()
