"""Whether the tensors of a file are those that a model needs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lpot_lightning.errors import ArtifactError


def check_names_and_shapes(plain: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Compare what a file holds with what a model has.

    Raises:
        ArtifactError: naming the first tensor that is missing, unknown, of another shape or dtype.

    Example::

        check_names_and_shapes(LitDigits().state_dict(), model.state_dict())
    """
    for name in (*expected, *plain):
        if name not in plain:
            raise ArtifactError(f"tensor `{name}` is missing")
        if name not in expected:
            raise ArtifactError(f"tensor `{name}` is unknown to this model")
        _check_tensor(name, plain[name], expected[name])


def check_scales(plain: Mapping[str, Tensor], names: set[str]) -> None:
    """Raise an ``ArtifactError`` where one of ``names`` holds what is no scale."""
    scales = [plain[name].reshape(-1) for name in names]
    if not scales or _are_scales(torch.cat(scales)):
        return
    for name in names:
        if not _are_scales(plain[name]):
            raise ArtifactError(f"tensor `{name}` holds a scale that is not finite and positive")


def _are_scales(values: Tensor) -> bool:
    return bool((torch.isfinite(values) & (values > 0)).all())


def _check_tensor(name: str, found: Tensor, expected: Tensor) -> None:
    if not isinstance(found, Tensor) or found.layout is not torch.strided:
        raise ArtifactError(f"`{name}` is no dense tensor")
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise ArtifactError(
            f"tensor `{name}` is {_shown(found)}, but this model has {_shown(expected)}"
        )


def _shown(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
