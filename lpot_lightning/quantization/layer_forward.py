"""What computes for a layer, in whatever precision was chosen for it last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from lpot_lightning.quantization.graph.exporting import NotExported, refuse_export
from lpot_lightning.quantization.graph.guards import Settled
from lpot_lightning.quantization.graph.ops import LAYER, RECURRENT, by_itself, named
from lpot_lightning.quantization.quantized_layer import (
    CONV1D,
    CONVOLUTIONS,
    kind_of_class,
)
from lpot_lightning.quantization.quantized_layer import RECURRENT as RECURRENT_LAYERS
from lpot_lightning.quantization.recurrent import Geometry
from lpot_lightning.quantization.rungs import LayerForm


class LayerForward(NotExported, Settled):
    """What the ``forward`` of a layer is that may be int8: what was chosen for it last.

    Graphs know it by its name, and compute what is chosen when they run.

    Args:
        layer: of a kind that ``kind_of`` knows; it holds this object, and is held by it.
        int8: what computes for it; ``None`` lets it compute as its class does.

    Attributes:
        op: what the user's model calls the layer, in a copy that is to be exported.
    """

    def __init__(self, layer: nn.Module, int8: LayerForm | None) -> None:
        self.layer, self.int8 = layer, int8
        self.name, self.op = named(self), ""
        self._is_bag = isinstance(layer, nn.EmbeddingBag)
        self._steps = Geometry.of(layer) if isinstance(layer, RECURRENT_LAYERS) else None
        weight: Any = layer.weight if self._steps is None else torch.empty(0)
        transposed = kind_of_class(type(layer)) == CONV1D
        self._outputs: int = weight.shape[1 if transposed else 0]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the layer's output, whatever it calls its input."""
        if self._steps is not None and torch.compiler.is_compiling():
            return self._in_graph(*args, **kwargs)
        if self._is_bag or self._steps is not None:  # which take more than one tensor
            return self.computed(*args, **kwargs)
        (input,) = (*args, *kwargs.values())
        if torch.compiler.is_compiling():  # what a graph is made of, whoever makes it
            refuse_export()
            return LAYER(input, self.name)
        return self.computed(input)

    def _in_graph(self, input: Tensor | PackedSequence, hx: Any = None) -> Any:
        """Let a graph hold a recurrent layer, whose results are then put together as they were."""
        refuse_export()
        if isinstance(input, PackedSequence):
            torch._dynamo.graph_break()
            return self.computed(input, hx)
        state = [] if hx is None else [hx] if isinstance(hx, Tensor) else list(hx)
        assert self._steps is not None
        return self._steps.nested(RECURRENT(input, state, self.name))

    def flat(self, input: Tensor, state: Sequence[Tensor]) -> list[Tensor]:
        """Return what a recurrent layer gives, one tensor after the other."""
        assert self._steps is not None
        hx: Any = tuple(state) if len(state) > 1 else next(iter(state), None)
        return self._steps.flat(self.computed(input, hx))

    def shaped_flat(self, input: Tensor) -> list[Tensor]:
        """Return empty tensors like the results of a recurrent layer."""
        assert self._steps is not None
        return [input.new_empty(shape) for shape in self._steps.shapes_of(input)]

    @by_itself
    def computed(self, *args: Any, **kwargs: Any) -> Any:
        """Return what was chosen last gives, whoever compiles just now."""
        if self.int8 is not None:
            return self.int8.forward(*args, **kwargs)
        return type(self.layer).forward(self.layer, *args, **kwargs)

    def shaped(self, input: Tensor) -> Tensor:
        """Return an empty tensor like the output, of which only shape and type are looked at."""
        if isinstance(self.layer, nn.Embedding):
            dtype: Any = self.layer.weight.dtype if self.int8 is None else self.int8.dtype
            return input.new_empty((*input.shape, self.layer.embedding_dim), dtype=dtype)
        if not isinstance(self.layer, CONVOLUTIONS):
            return input.new_empty((*input.shape[:-1], self._outputs))
        spatial = _places_after(self.layer, input.shape[-len(self.layer.stride) :])
        batch = input.shape[: input.dim() - len(spatial) - 1]
        return input.new_empty((*batch, self._outputs, *spatial))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Give a copy a name of its own."""
        vars(self).update(state)
        self.name = named(self)


def _places_after(layer: Any, sizes: Sequence[int]) -> list[int]:
    """Return how many places a convolution gives along each spatial dimension."""
    border, found = layer._reversed_padding_repeated_twice, []
    for number, size in enumerate(sizes):
        at = 2 * (len(sizes) - 1 - number)
        padded = size + border[at] + border[at + 1]
        reach = layer.dilation[number] * (layer.kernel_size[number] - 1)
        found.append((padded - reach - 1) // layer.stride[number] + 1)
    return found
