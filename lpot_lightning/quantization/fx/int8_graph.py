"""A graph after its conversion."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch.fx import GraphModule

from lpot_lightning.errors import QuantizationError
from lpot_lightning.quantization.fx.engine import quiet

_NO_PICKLE = (
    "an int8 model cannot be pickled, as `torch.save(model)` does, since torch cannot unpack its"
    " weights again: `lpot_lightning.load` restores it from the files of its workspace, and"
    " `torch.jit.trace(model, batch)` gives what can be saved as a whole"
)


class Int8Graph(GraphModule):
    """A converted graph. A copy of it is packed for the same engine.

    Torch packs a copy for the engine of the moment, whose kernels may be the wrong ones.
    """

    def __init__(self, converted: GraphModule) -> None:
        super().__init__(converted, converted.graph)
        self.meta["engine"] = torch.backends.quantized.engine

    def __deepcopy__(self, memo: dict[int, object]) -> Int8Graph:
        """Return a copy that computes the same."""
        with quiet(self.meta["engine"]):
            return cast(Int8Graph, super().__deepcopy__(memo))

    def __reduce__(self) -> Any:
        """Refuse to be pickled: torch would write a file that it cannot read."""
        raise QuantizationError(_NO_PICKLE)
