"""Take parts of a model out, put others in, put them back."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from lpot_lightning.errors import QuantizationError

Model = TypeVar("Model", bound=nn.Module)

_OTHER_TYPES = (torch.bfloat16, torch.float16, torch.float64)


def other_types(model: nn.Module) -> tuple[torch.dtype, ...]:
    """Return the half and double precision types that parameters of ``model`` are in."""
    found = {value.dtype for value in model.parameters()}
    return tuple(one for one in _OTHER_TYPES if one in found)


def second_model(model: Model) -> Model:
    """Return a copy of ``model`` that shares nothing with it: float32, on the CPU, in eval mode.

    Half and double precision weights become float32, which int8 is made from. A LightningModule
    remembers its torchmetrics objects by ``id``; the copy has to find its own.

    Raises:
        QuantizationError: if the model holds something that cannot be copied.
    """
    try:
        copied = copy.deepcopy(model)
    except Exception as error:
        raise QuantizationError(
            f"`{type(model).__name__}` cannot be copied, and the int8 model is a second object:"
            f" {type(error).__name__}: {error}; keep what cannot be copied out of the module"
        ) from error
    for module in copied.modules():
        if hasattr(module, "_metric_attributes"):
            module._metric_attributes = None  # type: ignore[assignment]
    return _in_float32(copied.cpu()).eval()


def _in_float32(model: Model) -> Model:
    """Make everything float32 that is in a type of the parameters that are not."""
    others = other_types(model)
    if others:
        model._apply(  # type: ignore[no-untyped-call]
            lambda value: value.float() if value.dtype in others else value
        )
    for module in model.modules():  # Lightning and torchmetrics remember what they were cast to
        if getattr(module, "_dtype", None) in others:
            module._dtype = torch.float32  # type: ignore[assignment]
    return model


@contextmanager
def replaced(model: nn.Module, parts: Mapping[str, nn.Module]) -> Iterator[nn.Module]:
    """Put ``parts`` in place of what ``model`` holds at their paths, for the time of the ``with``.

    A module that is registered under several names is replaced under all of them. The path ``""``
    stands for the model itself: the part is what the ``with`` gives.

    Example::

        with replaced(model, {"net": int8_net}) as judged:
            score = evaluate(judged)
    """
    if "" in parts:
        yield parts[""]
        return
    done = put(model, parts)
    try:
        yield model
    finally:
        for owner, name, before in reversed(done):
            owner._modules[name] = before


def put(
    model: nn.Module, parts: Mapping[str, nn.Module]
) -> list[tuple[nn.Module, str, nn.Module | None]]:
    """Put ``parts`` in for good and return what to write back, as owner, name and module."""
    wanted = {id(model.get_submodule(path)): part for path, part in parts.items()}
    done: list[tuple[nn.Module, str, nn.Module | None]] = []
    for owner in list(model.modules()):
        for name, child in owner._modules.items():
            if child is not None and id(child) in wanted:
                done.append((owner, name, child))
    for owner, name, child in done:
        owner._modules[name] = wanted[id(child)]
    return done
