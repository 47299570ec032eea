"""How much ops hurt in int8: the error of what the model gives, and of their own outputs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch

from lpot_lightning.quantization.damage import RootErrors, error_of, floats_in
from lpot_lightning.quantization.observed_ops import ObservedOps
from lpot_lightning.quantization.op_forms import OpForms
from lpot_lightning.recipe import OpConfig, Recipe


class OpErrors:
    """Measures ops on the batch of the dry run.

    Args:
        seen: the ops, once the calibration is over.
        forms: what computes for them in int8.
        roots: measures at the outputs of the model.
    """

    def __init__(self, seen: ObservedOps, forms: OpForms, roots: RootErrors) -> None:
        self._seen, self._forms, self._roots = seen, forms, roots
        self._measured = 0.0

    def rank(self, recipe: Recipe) -> list[tuple[str, float]]:
        """Return for each int8 op the error of what the model gives, on the batch of the dry run.

        Where that does not say anything, since the batch takes another way for one, it is the error
        of the op's own output.
        """
        configs = recipe.as_mapping()
        found = self._roots.of((op, *self._alone(op, configs[op])) for op in recipe.reduced_ops)
        return [(op, found[op] or self.error(recipe, [op])) for op in recipe.reduced_ops]

    def _alone(self, op: str, config: OpConfig) -> tuple[str, Callable[..., Any]]:
        """Return the path of the module of ``op``, and what computes for it with that in int8."""
        form = self._forms.made(op, config)
        if op in self._seen.alone:
            return op, form.forward
        return self._seen.owners.alone(op, form)  # type: ignore[arg-type]  # no table is one

    def error(self, recipe: Recipe, ops: Collection[str]) -> float:
        """Return the sum of the errors that ``ops`` make, each where it stands.

        The error of an op is the squared difference of its output over its squared size.
        """
        configs = recipe.as_mapping()
        return sum(self._error(op, configs[op]) for op in ops if not configs[op].is_fp32)

    def _error(self, path: str, config: OpConfig) -> float:
        calls, layer = self._seen.calls[path], self._seen.layers[path].layer
        if not calls.count:
            return 0.0
        self._measured += 2 / max(1, len(self._seen.layers))
        with torch.no_grad():
            clean = type(layer).forward(layer, *calls.args, **calls.kwargs)
            noisy = self._forms.made(path, config)(*calls.args, **calls.kwargs)
        return error_of(list(floats_in(noisy)), list(floats_in(clean)))

    @property
    def forwards(self) -> float:
        """What ``rank`` and ``error`` cost so far, in forward passes of the dry run's batch."""
        return self._measured + self._roots.forwards
