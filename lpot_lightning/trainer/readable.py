"""What of a checkpoint can be read back with ``weights_only=True``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.artifacts import storage
from lpot_lightning.errors import ArtifactError, in_short


def readable_part(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what of ``checkpoint`` can be read back, and why which of the rest cannot.

    Of a mapping, at any depth, the members that can be read are kept; numbers of tensors are not
    looked at.
    """
    left_out: dict[str, str] = {}
    return _readable(checkpoint, "", left_out), left_out


def _readable(items: Mapping[Any, Any], place: str, left_out: dict[str, str]) -> dict[str, Any]:
    if type(items) is dict and _why_not(items) is None:
        return items
    kept: dict[Any, Any] = {}
    for name, value in items.items():
        at = f"{place}.{name}" if place else str(name)
        why = _why_not({name: value})
        if why is None:
            kept[name] = value
        elif isinstance(value, Mapping) and "RecursionError" not in why:
            kept[name] = _readable(value, at, left_out)
        else:
            left_out[at] = why
    return kept


def _why_not(value: object) -> str | None:
    """Return why a value cannot be read back; ``None`` if it can."""
    try:
        storage.read_tensors(storage.to_bytes(_without_numbers(value)), "it")
    except ArtifactError as error:
        return in_short(error.__cause__ or error)
    except Exception as error:  # what cannot be pickled raises whatever its class likes
        return in_short(error)
    return None


def _without_numbers(value: Any) -> Any:
    """Return a value with empty tensors for those that any reader knows."""
    if type(value) in (Tensor, nn.Parameter):
        return torch.empty(0)
    if type(value) is dict:
        return {key: _without_numbers(one) for key, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_without_numbers, value))
    return value
