"""What each op costs in floating point: measured seconds, and bytes of what it gives on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.fx import Interpreter, Node
from torch.utils import _pytree as pytree

from lpot_lightning.quantization.fx.part import Part
from lpot_lightning.quantization.fx.probe import bind
from lpot_lightning.quantization.op_profile import OpProfile

RUNS = 5


class TimedRun(Interpreter):
    """Runs a prepared graph in floating point and times its ops."""

    def __init__(self, part: Part) -> None:
        super().__init__(part.graph)
        self._op_of = {node: op for op, nodes in part.ops.nodes.items() for node in nodes}
        self.seconds: dict[str, float] = {}
        self.bytes: dict[str, int] = {}

    def run_node(self, n: Node) -> Any:
        """Compute one node, by the clock if it is an op."""
        op = self._op_of.get(n)
        if op is None:
            return super().run_node(n)
        started = perf_counter()
        value = super().run_node(n)
        self.seconds[op] = self.seconds.get(op, 0.0) + perf_counter() - started
        self.bytes[op] = self.bytes.get(op, 0) + _bytes(value)
        return value


def profile(part: Part, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, OpProfile]:
    """Return the profile of each op of ``part``.

    Args:
        part: settled; its graph computes in floating point.
        args: positional arguments of one calibration call; ``kwargs`` its keywords.
    """
    seconds: dict[str, list[float]] = defaultdict(list)
    sizes: dict[str, int] = {}
    with torch.no_grad():
        for number in range(RUNS + 1):
            run = TimedRun(part)
            run.run(*bind(run.module, args, kwargs))
            sizes = run.bytes
            for op, taken in run.seconds.items() if number else ():  # the first one warms up
                seconds[op].append(taken)
    return {op: OpProfile(median(taken), sizes[op]) for op, taken in seconds.items()}


def _bytes(value: Any) -> int:
    leaves = pytree.tree_leaves(value)
    return sum(x.numel() * x.element_size() for x in leaves if isinstance(x, Tensor))
