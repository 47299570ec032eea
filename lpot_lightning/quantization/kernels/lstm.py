"""LSTMs by oneDNN, with weights that are laid out as its kernel wants them only once."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from lpot_lightning.errors import in_short
from lpot_lightning.quantization.graph.tracing import is_followed, is_tracing

_LOG = logging.getLogger(__name__)
_LAYER: Any = torch.ops.aten.mkldnn_rnn_layer.default
_BACKEND: Any = torch.backends.mkldnn
_LSTM = 2
"""What oneDNN calls it."""
MOST = 4
"""Shapes of one layer; inputs of others are left to torch."""
_MOST_VALUES = 2**22
"""Of all weights, since a layout takes as much memory as they do."""
_MOST_ROWS = 1024
"""Steps of all sequences; with more of them it does not show what torch does in each call."""
_State = tuple[Tensor, ...]
_Found = tuple[Tensor, _State]
_Layouts = list[tuple[Tensor, ...]]


class LaidOut:
    """Weights of an LSTM with biases and without projections, laid out for shapes that come.

    torch has oneDNN lay out the weights in each call, which was a fifth of it for two layers of 256
    and one sequence of 100 (torch 2.13). What comes of it is the same, bit by bit: a layout is kept
    only if that was seen.

    Args:
        weights: four of each layer and direction, in the order of torch.
        layers: on each other.
        directions: 1 or 2.

    Example::

        laid = LaidOut([one.detach() for one in nn.LSTM(8, 16).parameters()], 1, 1)
        state = torch.zeros(1, 2, 16), torch.zeros(1, 2, 16)
        found = laid.computed(torch.randn(5, 2, 8), state)  # None: torch has to
    """

    def __init__(self, weights: Sequence[Tensor], layers: int, directions: int) -> None:
        self._plain = [tuple(weights[at : at + 4]) for at in range(0, len(weights), 4)]
        self._layers, self._directions = layers, directions
        self._hidden = weights[1].shape[1]
        self._is_small = sum(map(Tensor.numel, weights)) <= _MOST_VALUES
        self._laid: dict[Any, _Layouts | None] = {}

    def computed(self, x: Tensor, state: _State) -> _Found | None:
        """Return what torch gives, output and state; ``None`` where torch is to compute it.

        Args:
            x: steps, samples, inputs.
            state: ``h`` and ``c`` of all layers to begin with.
        """
        is_small = self._is_small and 0 < x.shape[:2].numel() <= _MOST_ROWS
        if not (is_small and _may_compute(x, *state)):
            return None
        key = x.shape, torch.get_num_threads(), _BACKEND.rnn.fp32_precision
        if key in self._laid:
            laid = self._laid[key]
            return None if laid is None else self._gone_over(laid, x, state)
        if len(self._laid) >= MOST:
            return None
        self._laid[key], found = self._proved(x, state)
        return found

    def _proved(self, x: Tensor, state: _State) -> tuple[_Layouts | None, _Found]:
        """Return layouts, if they give what comes without them, and that."""
        wanted = self._by_torch(x, state)
        try:
            with torch.inference_mode(False), torch.no_grad():
                laid = list(self._laid_for(x.shape[0], x.shape[1]))
            found = self._gone_over(laid, x, state)
        except (RuntimeError, AttributeError) as error:  # oneDNN is no part of each torch
            _LOG.debug("torch computes an LSTM: %s", in_short(error))
            return None, wanted
        pairs = zip((found[0], *found[1]), (wanted[0], *wanted[1]), strict=True)
        return (laid if all(_same(*pair) for pair in pairs) else None), wanted

    def _by_torch(self, x: Tensor, state: _State) -> _Found:
        held = list(chain.from_iterable(self._plain))
        settings = True, self._layers, 0.0, False, self._directions == 2, False
        output, h, c = torch._VF.lstm(x, state, held, *settings)
        return output, (h, c)

    def _laid_for(self, steps: int, samples: int) -> Iterator[tuple[Tensor, ...]]:
        for number, (of_input, of_state, *biases) in enumerate(self._plain):
            shape = [steps, samples, of_input.shape[1]]
            reverse = number % self._directions == 1
            given = of_input, of_state, self._hidden, reverse, True, False, shape
            laid = torch.ops.mkldnn._reorder_mkldnn_rnn_layer_weight(*given)
            yield (*laid, *biases)

    def _gone_over(self, weights: _Layouts, x: Tensor, state: _State) -> _Found:
        """Return what comes of ``x``, as torch goes over it."""
        h, c = (one.contiguous().unbind(0) for one in state)
        inputs, ends = x.contiguous(), list[tuple[Tensor, Tensor]]()
        both = self._directions == 2
        settings: Any = [], _LSTM, self._hidden, self._layers, True, both, False, False
        for layer in range(self._layers):
            sides = []
            for side in range(self._directions):
                at = layer * self._directions + side
                given = inputs, *weights[at], h[at], c[at], side == 1, *settings
                output, *end, _ = _LAYER(*given)
                sides.append(output)
                ends.append((end[0], end[1]))
            inputs = torch.cat(sides, -1) if both else sides[0]
        hs, cs = zip(*ends, strict=True)
        return inputs, (torch.stack(hs), torch.stack(cs))


def _may_compute(*given: Tensor) -> bool:
    """Whether torch would have oneDNN compute tensors as they are."""
    turned_on = torch._C._get_mkldnn_enabled() and not torch.is_autocast_enabled("cpu")
    return turned_on and all(map(_is_plain, given))


def _is_plain(given: Tensor) -> bool:
    return type(given) is Tensor and given.dtype is torch.float32 and given.device.type == "cpu"


def needs_values_alone() -> bool:
    """Whether nobody wants derivatives, a trace or an export of what is computed now."""
    is_recorded = is_tracing() or torch.compiler.is_exporting() or is_followed()
    return not (is_recorded or torch.is_grad_enabled() or forward_ad._current_level >= 0)


def _same(one: Tensor, other: Tensor) -> bool:
    alike = one.shape == other.shape and one.stride() == other.stride()
    return alike and bool(((one == other) | ((one != one) & (other != other))).all())
