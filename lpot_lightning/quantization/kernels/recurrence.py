"""Layers that go over steps, with an int8 product of the state in each."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from lpot_lightning.errors import in_short
from lpot_lightning.quantization.graph.tracing import is_tracing
from lpot_lightning.quantization.kernels.recorded import packed_function
from lpot_lightning.quantization.kernels.rows import Int8Rows, Rows, rows_of

_LOG = logging.getLogger(__name__)
_ONEDNN = torch.ops.onednn
LSTM, GRU, RNN_TANH, RNN_RELU = "LSTM", "GRU", "RNN_TANH", "RNN_RELU"
"""What torch calls them."""
State: TypeAlias = tuple[Tensor, ...]
"""What a step gives on: ``h``, and ``c`` of an LSTM."""
_TOGETHER = 1024
"""Rows whose inputs are multiplied at once: what comes of more does not stay in the caches."""
_SCRIPTING = Lock()
"""Warnings are held back meanwhile, which is for all threads."""


class StepWeights(NamedTuple):
    """Of one layer in one direction.

    Args:
        of_input: rounded, with the biases that are added before all else.
        of_state: rounded; that of a GRU has a bias of its own.
        projection: of what an LSTM gives, where it has one.
    """

    of_input: Int8Rows
    of_state: Int8Rows
    projection: Int8Rows | None = None


def gone_over(
    kind: str, weights: StepWeights, inputs: Sequence[Tensor], state: State
) -> tuple[list[Tensor], State]:
    """Return what each step gives, and the state after the last; both may be of inference mode.

    Args:
        kind: of those above.
        weights: of the layer.
        inputs: float32 ``[batch, inputs]`` of each step, in the order of going, of one size.
        state: before the first step, of that size.

    Example::

        x = torch.randn(10, 4, 8)  # steps, samples, inputs
        outputs, (h, c) = gone_over("LSTM", weights, x.unbind(0), (h, c))
    """
    count, outputs = max(1, _TOGETHER // max(1, inputs[0].shape[0])), list[Tensor]()
    for start in range(0, len(inputs), count):
        found, state = _some(kind, weights, inputs[start : start + count], state)
        outputs += found
    return outputs, state


def _some(
    kind: str, weights: StepWeights, inputs: Sequence[Tensor], state: State
) -> tuple[list[Tensor], State]:
    first, kernel = weights.of_input, weights.of_state
    given = first.product(Rows.of(torch.stack(tuple(inputs)), first.high)).unbind(0)
    if weights.projection is None and not is_tracing() and kernel.has_kernel_for(state[0]):
        loop = _loop(kernel.by_convolution)
        if loop is not None:
            return _by_script(loop, kind, kernel, given, state)
    return _by_python(kind, weights, given, state)


def _by_script(
    loop: Callable[..., Any], kind: str, kernel: Int8Rows, given: Sequence[Tensor], state: State
) -> tuple[list[Tensor], State]:
    held = kernel.pack_for(state[0]), kernel.scales, kernel.zeros, *_added(kernel), kernel.high
    before = torch._C._get_graph_executor_optimize(False)  # nothing is fused that rounds anew
    try:
        with torch.inference_mode():  # which takes a seventh of the time off small ones
            outputs, c = loop(kind, list(given), state[0], state[-1], *held)
    finally:
        torch._C._set_graph_executor_optimize(before)
    return outputs, (outputs[-1], c)[: len(state)]


def _by_python(
    kind: str, weights: StepWeights, given: Sequence[Tensor], state: State
) -> tuple[list[Tensor], State]:
    kernel, last, outputs = weights.of_state, weights.projection, list[Tensor]()
    h, c = state[0], state[-1]
    for x in given:
        rows = Rows.of(h, kernel.high)
        products = kernel.forward(rows.values), rows.scales, rows.least
        h, c = stepped(kind, x, *products, *_added(kernel), h, c)
        h = h if last is None else last.product(Rows.of(h, last.high))
        outputs.append(h)
    return outputs, (h, c)[: len(state)]


def _added(kernel: Int8Rows) -> tuple[Tensor, Tensor]:
    """Return the sums of the rows of a weight, and its bias."""
    sums, offset = kernel.sums, kernel.offset
    return sums, torch.zeros_like(sums) if offset is None else offset


def stepped(
    kind: str,
    x: Tensor,
    products: Tensor,
    scales: Tensor,
    least: Tensor,
    sums: Tensor,
    offset: Tensor,
    h: Tensor,
    c: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return ``h`` and ``c`` after a step; TorchScript can take it.

    Args:
        kind: a name that torch gives.
        x: what comes of the input.
        products: of the integers of ``h``, that have these ``scales`` and ``least`` values.
        scales: see there.
        least: see there.
        sums: of the rows of the weight.
        offset: the bias of a GRU that its reset gate holds back, too.
        h: of the step before.
        c: of the step before, if there is one.
    """
    if kind == "GRU":
        size = h.size(-1)
        gates = torch.addcmul(offset, least, sums).addcmul_(products, scales)
        both = x.narrow(-1, 0, 2 * size) + gates.narrow(-1, 0, 2 * size)
        r, z = both.sigmoid_().chunk(2, -1)
        n = torch.addcmul(x.narrow(-1, 2 * size, size), r, gates.narrow(-1, 2 * size, size))
        return torch.lerp(n.tanh_(), h, z), c
    gates = torch.addcmul(x, least, sums).addcmul_(products, scales)
    if kind == "LSTM":
        i, f, g, o = gates.chunk(4, -1)
        c = torch.mul(f.sigmoid_(), c).addcmul_(i.sigmoid_(), g.tanh_())
        return o.sigmoid_() * c.tanh(), c
    return gates.relu_() if kind == "RNN_RELU" else gates.tanh_(), c


@cache
def _loop(by_convolution: bool) -> Callable[..., Any] | None:
    """Return what goes over steps without Python, ``None`` where TorchScript does not take it.

    Python between two kernels takes as long as a small one (torch 2.13).
    """
    loop = _going(_of_convolution() if by_convolution else _of_linear())
    try:
        with _SCRIPTING, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch.jit")
            made: Callable[..., Any] = torch.jit.script(loop)
            return made
    except Exception as error:  # no source is there, or no TorchScript in a torch to come
        _LOG.debug("Python goes over steps: %s", in_short(error))
        return None


def _of_convolution() -> Callable[..., Tensor]:
    kernel = packed_function(_ONEDNN.qconv_pointwise.default, 0)

    def product(x: Tensor, pack: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
        laid = x.view(1, x.size(0), 1, x.size(1)).permute(0, 3, 1, 2)
        found = kernel(
            laid, 1.0, 0, pack, scales, zeros, None,
            [1, 1], [0, 0], [1, 1], 1, 1.0, 0, torch.float32, "none", "",
        )  # fmt: skip
        return found.permute(0, 2, 3, 1).view(x.size(0), -1)

    return product


def _of_linear() -> Callable[..., Tensor]:
    kernel = packed_function(_ONEDNN.qlinear_pointwise.default, 0)

    def product(x: Tensor, pack: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
        return kernel(x, 1.0, 0, pack, scales, zeros, None, 1.0, 0, torch.float32, "none", "")

    return product


def _going(product: Callable[..., Tensor]) -> Callable[..., Any]:
    def loop(
        kind: str,
        given: list[Tensor],
        h: Tensor,
        c: Tensor,
        pack: Tensor,
        scales: Tensor,
        zeros: Tensor,
        sums: Tensor,
        offset: Tensor,
        high: int,
    ) -> tuple[list[Tensor], Tensor]:
        outputs: list[Tensor] = []
        for x in given:
            q, spans, least = rows_of(h, high)
            products = product(q, pack, scales, zeros)
            h, c = stepped(kind, x, products, spans, least, sums, offset, h, c)
            outputs.append(h)
        return outputs, c

    return loop
