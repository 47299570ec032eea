"""Float32 in place of half and double precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from lightning.fabric.plugins.precision.utils import _convert_fp_tensor
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision, Precision
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from typing_extensions import override

from lpot_lightning.errors import EvaluationError, in_short
from lpot_lightning.module.copying import other_types
from lpot_lightning.trainer.package import derived, either, of

if TYPE_CHECKING:
    _Plain = Precision
else:  # it comes from the package of the trainer
    _Plain = object


class Float32(_Plain):
    """Casts batches, as ``bf16-true`` and its like do, but to the type of our copies."""

    @override
    def convert_input(self, data: Any) -> Any:
        """Return ``data`` with every floating-point tensor in float32."""
        return apply_to_collection(data, Tensor, _convert_fp_tensor, dst_type=torch.float32)


def judging_precision(
    trainer: Trainer, module: LightningModule, say: Callable[[str], None]
) -> Precision:
    """Return the precision that copies of ``module`` are judged in, always 32 bits.

    Batches stay as the loaders give them unless the weights, or the trainer's precision, are of
    another type than float32. Where the weights are, ``say`` is told.
    """
    names = [str(one).removeprefix("torch.") for one in other_types(module)]
    if names:
        say(f"weights are {' and '.join(names)}: quantized from float32 copies")
    casts = isinstance(trainer.precision_plugin, either(HalfPrecision, DoublePrecision))
    plain = of(trainer, Precision)
    return derived(Float32, plain)() if names or casts else plain()


def step_failed(error: BaseException, precision: Precision) -> EvaluationError:
    """Return the error to raise where a ``validation_step`` cannot work as it is."""
    hint = (
        "; the weights are float32 copies here: cast to the type of the weights (`self.dtype`),"
        " and to no fixed one"
    )
    cast = isinstance(precision, Float32)
    return EvaluationError(f"the validation loop fails: {in_short(error)}{hint if cast else ''}")
