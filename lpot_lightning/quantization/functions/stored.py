"""Weights of which files hold the rounded form alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from lpot_lightning.module.stand_in import HELD
from lpot_lightning.quantization.functions.forward import owner_of
from lpot_lightning.quantization.kernels.arithmetic import Int8Weight


def stored_weights(model: nn.Module) -> Iterator[str]:
    """Yield the names of weights that no call needs but as they were rounded.

    The modules keep them: a call of another kind computes with them in floats. In a model that was
    loaded they have the values that the int8 form stands for.
    """
    for name, _ in _stored(model):
        yield name


def restored(model: nn.Module, plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that ``plain``, the state of a file, holds the int8 form of alone."""
    found = {}
    for name, kernel in _stored(model):
        values, scales = plain.get(f"{kernel}.weight"), plain.get(f"{kernel}.scales")
        if name in plain or values is None:
            continue
        if scales is None:  # of bfloat16
            found[name] = values.float()
        else:
            size = getattr(model.get_submodule(kernel), "group_size", None)
            found[name] = Int8Weight(values, scales, group_size=size).dequantize()
    return found


def _stored(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the name of each weight, and that of its kernel."""
    for path, module in model.named_modules():
        forward = owner_of(module)
        if forward is not None:
            own = f"{path}." if path else ""
            for op, name in forward.stored().items():
                yield f"{own}{name}", f"{own}{HELD}.{op}.layer.kernel"
