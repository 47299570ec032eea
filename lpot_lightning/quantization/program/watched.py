"""Whether what a program was made of is as it was: asked before each call, so at little cost."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

from torch import Tensor, nn

from lpot_lightning.quantization.functions.forward import FunctionOp
from lpot_lightning.quantization.graph.learned import Learned
from lpot_lightning.quantization.kernels.pack import versions
from lpot_lightning.quantization.layer_forward import LayerForward

_FORM = attrgetter("int8")


class Watched:
    """What a program was made of.

    Args:
        layers: whose int8 forms are in it.
        folded: the places of inputs whose values are in it as tensors.
        numbers: the places of those that are as numbers.
        inputs: that it was made of.
    """

    def __init__(
        self,
        layers: Sequence[LayerForward | FunctionOp],
        folded: Sequence[int],
        numbers: Sequence[int],
        inputs: Sequence[Any],
    ) -> None:
        self._layers, self._folded, self._numbers = tuple(layers), tuple(folded), tuple(numbers)
        self._kinds = self._kinds_of(inputs)
        self._forms: list[nn.Module | None] = list(map(_FORM, self._layers))
        modules = [one for form in self._forms if form is not None for one in form.modules()]
        self._buffers = [one._buffers for one in modules if one._buffers]

    def state(self, inputs: Sequence[Any]) -> list[Any] | None:
        """Return what differs where the program is not that of now; ``None`` if it cannot be.

        Args:
            inputs: of the call.
        """
        if list(map(_FORM, self._layers)) != self._forms:
            return None
        tensors = [inputs[place] for place in self._folded]
        tensors += [
            one for one in chain.from_iterable(map(dict.values, self._buffers)) if one is not None
        ]
        learned = Learned.calls if self._folded else 0
        numbers = [float(inputs[place]) for place in self._numbers]
        try:
            places = list(map(Tensor.data_ptr, tensors))
        except TypeError:  # there is a tensor no more
            return None
        # a pack is of one process
        return [os.getpid(), learned, numbers, places, versions(tensors)]

    def fits(self, inputs: Sequence[Any]) -> bool:
        """Whether a program can be made of ``inputs`` as of the first: no guard has looked at them.

        Args:
            inputs: of the call.
        """
        return self._kinds_of(inputs) == self._kinds

    def _kinds_of(self, inputs: Sequence[Any]) -> list[Any]:
        return [_kind(inputs[place]) for place in self._folded]


def _kind(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return type(value)
    return type(value), value.dtype, value.device, value.shape
