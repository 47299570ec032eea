"""Whether tensors of a file can be what was written, whatever the hashes say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from lpot_lightning.artifacts.probe import PREFIX
from lpot_lightning.errors import ArtifactError
from lpot_lightning.module.fingerprint import described_tensor

NOT_FINITE = "not_finite"
"""The field of a tune config that names the tensors with NaN or infinity, as masks have it."""

_SMALL = 1 << 14
"""How many numbers are so few that a call for them takes longer than to look at them."""


def not_finite(plain: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors that hold NaN or infinity.

    Example::

        not_finite({"mask": torch.tensor([0.0, -torch.inf])})  # ["mask"]
    """
    small = [value.reshape(-1) for value in plain.values() if _is_small(value)]
    if not small or bool(torch.cat(small).sum().isfinite()):  # some hundreds of scales and biases
        return [name for name, one in plain.items() if not _is_small(one) and not _is_finite(one)]
    return [name for name, value in plain.items() if not _is_finite(value)]


def _is_small(value: Tensor) -> bool:
    return value.dtype == torch.float32 and value.numel() <= _SMALL


def _is_finite(value: Tensor) -> bool:
    if value.is_complex():
        value = torch.view_as_real(value)
    if not value.is_floating_point() or not value.numel():
        return True
    if value.element_size() < 4:
        value = value.float()  # a sum of halves is soon infinite, and float8 has none
    # one pass that writes nothing; a sum of many that are finite may be infinite
    return bool(value.sum().isfinite()) or bool(value.isfinite().all())


def check_fields(found: object) -> None:
    """Raise an ``ArtifactError`` unless ``found`` is what the field ``NOT_FINITE`` may be."""
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ArtifactError(f"`{NOT_FINITE}` is no list of names of tensors")


def check_believable(
    configure: Mapping[str, Any], plain: Mapping[str, Tensor], *, whole: bool
) -> None:
    """Hold tensors against what the tune config says of them.

    Args:
        configure: checked, and found to be that of ``plain``.
        plain: the tensors of the model, and those of its probe.
        whole: whether all of the model's tensors are there as they were; else some may be int8.

    Raises:
        ArtifactError: naming the first tensor that is missing, unknown, of another shape or type,
            or holds NaN or infinity and did not when it was written.
    """
    said: Mapping[str, str] = configure["fp32_model"]
    own = [name for name in plain if not name.startswith(PREFIX)]
    for name in own:
        _check_kind(name, plain[name], said.get(name), whole=whole)
    if whole and (gone := next((name for name in said if name not in plain), None)):
        raise ArtifactError(f"tensor `{gone}` is missing")
    _check_finite(not_finite(plain), configure.get(NOT_FINITE, ()))


def _check_kind(name: str, value: Tensor, said: str | None, *, whole: bool) -> None:
    if said is None and whole:
        raise ArtifactError(f"tensor `{name}` is unknown to the tune config")
    found = described_tensor(value)
    if said is not None and found != said:
        raise ArtifactError(f"tensor `{name}` is {found}, but the tune config says {said}")


def _check_finite(found: Iterable[str], known: Iterable[str]) -> None:
    allowed = set(known)
    for name in found:
        if name not in allowed:
            raise ArtifactError(
                f"tensor `{name}` holds NaN or infinity, and `{NOT_FINITE}` of the tune config does"
                " not name it: the files were edited, or written by a version that did not note"
                " such tensors; quantize, or prune, the model again"
            )
