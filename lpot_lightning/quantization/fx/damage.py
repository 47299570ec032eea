"""How much ops hurt in int8: the error of their part's output, simulated."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from lpot_lightning.module.calls import ModuleCalls
from lpot_lightning.quantization.fx.part import Part
from lpot_lightning.quantization.fx.probe import ToggleRun, bind, tensors_of
from lpot_lightning.recipe import OpConfig

MOST_CHANGE = 1e-6
"""Error above which an equalized graph is not the same function; float32 gives below 1e-10."""


class Damage:
    """Measures on the batch of the dry run.

    The values in floating point are kept from one measurement to the next: each costs what comes
    after the ops in question.

    Args:
        parts: settled.
        calls: of each part, in the dry run.
    """

    def __init__(self, parts: Sequence[Part], calls: Sequence[ModuleCalls]) -> None:
        self._parts = parts
        self._calls = calls
        self._runs: dict[int, ToggleRun] = {}
        self._computed = 0

    @property
    def forwards(self) -> float:
        """What the measurements cost so far, in forward passes of the dry run's batch."""
        computed = self._computed + sum(run.computed for run in self._runs.values())
        return computed / max(1, sum(part.size for part in self._parts))

    def of(self, configs: Mapping[str, OpConfig], ops: Collection[str]) -> float:
        """Return the error with ``ops`` alone in int8: over their parts, the sum.

        The error of a part is the squared difference of its outputs over their squared size.

        Args:
            configs: of all ops; see ``ToggleRun.with_int8``.
            ops: int8 in ``configs``.
        """
        found = 0.0
        for number, part in enumerate(self._parts):
            own = [op for op in part.ops.nodes if op in ops and not configs[op].is_fp32]
            if own:
                with torch.no_grad():
                    run = self._run(number)
                    noisy = run.with_int8({op: configs[op] for op in part.ops.nodes}, own)
                    found += _error(noisy, run.clean)
        return found

    def _run(self, number: int) -> ToggleRun:
        if number not in self._runs:
            calls = self._calls[number]
            self._runs[number] = ToggleRun(self._parts[number], calls.args, calls.kwargs)
        return self._runs[number]

    def forget(self) -> None:
        """Let go of the values in floating point."""
        self._computed += sum(run.computed for run in self._runs.values())
        self._runs.clear()


def changes_function(part: Part, calls: ModuleCalls, consumers: Collection[str]) -> bool:
    """Whether ``part`` gives something else in floating point where it is equalized.

    Args:
        part: settled.
        calls: of the part, in the dry run.
        consumers: of the boundaries to equalize.
    """
    inputs = bind(part.graph, calls.args, calls.kwargs)
    with torch.no_grad():
        clean = tensors_of(part.graph(*inputs))
        changed = tensors_of(
            functional_call(
                part.graph, part.corrections.equalized(consumers), tuple(inputs), tie_weights=False
            )
        )
    return not _error(changed, clean) < MOST_CHANGE


def _error(noisy: list[Tensor], clean: list[Tensor]) -> float:
    """Return the mean over the outputs of ``|noisy - clean|² / |clean|²``."""
    shares = [
        float((a - b).square().sum() / b.square().sum().clamp_min(1e-30))
        for a, b in zip(noisy, clean, strict=True)
    ]
    return sum(shares) / len(shares) if shares else 0.0
