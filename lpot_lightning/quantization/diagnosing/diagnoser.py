"""Finds what of an op 8 bits hold badly, by computing it without."""

from __future__ import annotations

import torch
from torch import Tensor

from lpot_lightning.quantization.corrections import EQUALIZATION
from lpot_lightning.quantization.diagnosing.diagnosis import FAR, MANY, SMALL, UNEQUAL, Diagnosis
from lpot_lightning.quantization.diagnosing.simulated_op import SimulatedOp, row_error
from lpot_lightning.quantization.equalization import spatial_dims
from lpot_lightning.quantization.observed_layer import input_of
from lpot_lightning.quantization.observed_ops import ObservedOps
from lpot_lightning.quantization.op_forms import OpForms
from lpot_lightning.recipe import OpConfig, Rung

SAMPLES = 16
"""Of the batch of the dry run: about so many tell what hurts an op."""
_NOTHING = 1e-30


class Diagnoser:
    """Finds what hurts ops of one model in int8.

    Args:
        seen: the ops, once the calibration is over.
        forms: what computes for them in int8.

    Attributes:
        forwards: what it cost so far, in forward passes of the dry run's batch.

    Example::

        config = recipe.as_mapping()["fc"]
        prepared.diagnoser.diagnosis("fc", config).without_outliers
    """

    def __init__(self, seen: ObservedOps, forms: OpForms) -> None:
        self._seen, self._forms = seen, forms
        self.forwards = 0.0

    def can_tell(self, op: str, config: OpConfig) -> bool:
        """Whether the dry run came to an op that reads floats on a range which data have shown."""
        calls, evened = self._seen.calls[op], EQUALIZATION in config.corrections
        x, seen = input_of(calls.args, calls.kwargs), self._seen.layers[op].ends is not None
        is_known = seen and config.rung is Rung.STATIC and not (config.is_trained and evened)
        return is_known and calls.count > 0 and x is not None and x.numel() > 0

    def diagnosis(self, op: str, config: OpConfig) -> Diagnosis:
        """Return what is wrong with an op that ``can_tell`` is true of."""
        grid, evened = self._forms.grid(op, config), EQUALIZATION in config.corrections
        assert grid is not None
        known = self._forms.equalizations[op] if evened else None
        with torch.no_grad():
            simulated = SimulatedOp(
                self._seen.layers[op], self._sample(op), grid, known, self._forms.bounds.pair
            )
            found = _found(simulated)
        self._spend(op, simulated.computed)
        return found

    def error(self, op: str, config: OpConfig) -> float:
        """Return the error of an op in the form that ``config`` asks for, corrections and all.

        It is that of the kernels, on the same rows as that of ``diagnosis``.
        """
        layer, x = self._seen.layers[op].layer, self._sample(op)
        with torch.no_grad():
            exact = type(layer).forward(layer, x)
            noisy = self._forms.made(op, config)(x)
        self._spend(op, 2)
        return row_error(noisy, exact, x.dim() - 1 - spatial_dims(layer))

    def _input(self, op: str) -> Tensor:
        calls = self._seen.calls[op]
        found = input_of(calls.args, calls.kwargs)
        assert found is not None
        return found.detach()

    def _sample(self, op: str) -> Tensor:
        x, layer = self._input(op), self._seen.layers[op].layer
        is_batch = x.dim() > 1 + spatial_dims(layer)
        return x[:: max(1, len(x) // SAMPLES)] if is_batch else x

    def _spend(self, op: str, times: int) -> None:
        share = self._sample(op).numel() / self._input(op).numel()
        self.forwards += times * share / max(1, len(self._seen.layers))


def _found(one: SimulatedOp) -> Diagnosis:
    least, greatest = one.ends
    sizes = greatest.clamp(min=0) - least.clamp(max=0)
    spread = _spread(sizes)
    weight_spread = _spread(one.weight_sizes())
    inner, counts = one.inner_range(), one.seen.counts
    whole = max(one.seen.greatest, 0.0) - min(one.seen.least, 0.0)
    reach = whole / max(inner[1] - inner[0], _NOTHING)
    negatives = float(counts[one.seen.centers < 0].sum() / counts.sum())
    levels = round(one.steps * -one.low / (one.high - one.low))
    has_tail = negatives >= MANY and one.least < 0 and levels <= SMALL * one.steps
    return Diagnosis(
        error=one.error(),
        of_weights=one.of_weights(),
        without_spread=one.without_spread() if max(spread, weight_spread) >= UNEQUAL else None,
        without_outliers=one.without_outliers() if reach >= FAR else None,
        without_tail=one.without_tail() if has_tail else None,
        channels=len(least),
        dead=int((sizes == 0).sum()),
        spread=spread,
        weight_spread=weight_spread,
        reach=reach,
        negatives=negatives,
        levels=(levels, one.steps + 1),
        least=one.least,
    )


def _spread(sizes: Tensor) -> float:
    """Return the greatest of some sizes over the least one that is not 0."""
    there = sizes[sizes > 0]
    return float(there.max() / there.min()) if len(there) else 1.0
