"""What tensors are called with `torch.compile` around a part of a model, and without it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from lpot_lightning.module.copying import Uncompiled

PART = "_orig_mod"
"""The name of what was compiled, in the module that ``torch.compile`` gives."""


def named_as(names: Iterable[str], state: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``state`` by those of ``names`` that mean the same but for what is compiled.

    Example::

        named_as(["net.weight"], {"net._orig_mod.weight": 1.0})  # {"net.weight": 1.0}
    """
    known = {_plain(name): name for name in names}
    return {known.get(_plain(name), name): value for name, value in state.items()}


def compiled_as(model: nn.Module, names: Iterable[str]) -> nn.Module:
    """Return ``model`` with names that mean compiled parts where those of ``names`` mean some.

    Args:
        model: a copy of a user's, where nothing is compiled; it is changed.
        names: of the tensors of a model of the same structure.
    """
    wanted = _compiled(names)
    if wanted == _compiled(name for name, _ in model.named_parameters()):
        return model
    return _as(model, wanted, "", {})


def _as(model: nn.Module, wanted: set[str], path: str, done: dict[int, nn.Module]) -> nn.Module:
    inner = model._orig_mod if isinstance(model, Uncompiled) else model
    if id(inner) not in done:
        done[id(inner)] = Uncompiled(inner) if path in wanted else inner
        for name, child in inner._modules.items():
            if child is not None:
                below = f"{path}.{name}" if path else name
                inner._modules[name] = _as(child, wanted, below, done)
    return done[id(inner)]


def _plain(name: str) -> str:
    return ".".join(piece for piece in name.split(".") if piece != PART)


def _compiled(names: Iterable[str]) -> set[str]:
    """Return the plain paths of the modules that are compiled, by the names of their tensors."""
    split = [name.split(".") for name in names]
    return {
        _plain(".".join(pieces[:number]))
        for pieces in split
        for number, piece in enumerate(pieces)
        if piece == PART
    }
