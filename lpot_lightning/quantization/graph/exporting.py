"""What `torch.export` is told of an int8 model."""

from __future__ import annotations

from typing import NoReturn

import torch

from lpot_lightning.errors import QuantizationError

_REFUSED = (
    '`torch.export` cannot take an int8 model as it is; `result.export("model.pt2")` writes what it'
    ' would give, for torch alone, and `result.export("model.onnx")` ONNX; without a result it is'
    " `lpot_lightning.export(model, path, example=…)`"
)


class NotExported:
    """A ``forward`` that ``torch.export`` cannot take, and says so.

    What it asks for first, of the ``forward`` of the model itself, is code.
    """

    @property
    def __code__(self) -> NoReturn:
        """Say so; to who asks whether there is any, there is none."""
        raise AttributeError(_REFUSED)


def refuse_export() -> None:
    """Say so inside of a model of others: the file would hold numbers that mean int8 layers of this
    process, and others in the next.

    Raises:
        QuantizationError: while ``torch.export`` runs.
    """
    if torch.compiler.is_exporting():
        raise QuantizationError(_REFUSED)
