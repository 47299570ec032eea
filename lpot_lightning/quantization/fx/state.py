"""The int8 state as plain dense tensors, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.errors import ArtifactError

_DTYPES = {torch.qint8: torch.int8, torch.quint8: torch.uint8, torch.qint32: torch.int32}
_AFFINE = (torch.per_tensor_affine, torch.per_tensor_symmetric)


def to_plain(module: nn.Module) -> dict[str, Tensor]:
    """Return the state_dict of ``module`` in primitives.

    A quantized tensor becomes ``name.int_repr``, ``name.scale`` and ``name.zero_point``, per
    channel also ``name.axis``; everything else is as it was. What is no tensor (a dtype, an
    absent bias) follows from the structure and is left out.
    """
    plain: dict[str, Tensor] = {}
    for name, value in module.state_dict().items():
        pieces = value if isinstance(value, tuple) else (value,)
        for number, piece in enumerate(pieces):
            full = f"{name}.{number}" if isinstance(value, tuple) else name
            plain.update(_plain_tensor(full, piece))
    return plain


def _plain_tensor(name: str, value: Any) -> dict[str, Tensor]:
    if not isinstance(value, Tensor):
        return {}
    if not value.is_quantized:
        return {name: value.detach().clone().contiguous()}
    found = {f"{name}.int_repr": value.int_repr().contiguous()}
    if value.qscheme() in _AFFINE:
        found[f"{name}.scale"] = torch.tensor(value.q_scale(), dtype=torch.float64)
        found[f"{name}.zero_point"] = torch.tensor(value.q_zero_point())
        return found
    found[f"{name}.scale"] = value.q_per_channel_scales().clone()
    found[f"{name}.zero_point"] = value.q_per_channel_zero_points().clone()
    found[f"{name}.axis"] = torch.tensor(value.q_per_channel_axis())
    return found


def check_plain(plain: Mapping[str, Tensor], module: nn.Module) -> None:
    """Compare what a file holds with what ``module`` needs, before anything is built from it.

    Raises:
        ArtifactError: naming the first tensor that is missing, unknown, of another shape or
            dtype, or whose scale is not finite and positive.
    """
    expected = to_plain(module)
    for name in (*expected, *plain):
        if name not in plain:
            raise ArtifactError(f"tensor `{name}` is missing")
        if name not in expected:
            raise ArtifactError(f"tensor `{name}` is unknown to this model")
        _check_tensor(name, plain[name], expected[name])


def _check_tensor(name: str, found: Tensor, expected: Tensor) -> None:
    if not isinstance(found, Tensor) or found.layout is not torch.strided:
        raise ArtifactError(f"`{name}` is no dense tensor")
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise ArtifactError(
            f"tensor `{name}` is {_shown(found)}, but this model has {_shown(expected)}"
        )
    if _is_scale(name) and not bool((torch.isfinite(found) & (found > 0)).all()):
        raise ArtifactError(f"tensor `{name}` holds a scale that is not finite and positive")
    if name.endswith(".axis") and not torch.equal(found, expected):
        raise ArtifactError(f"tensor `{name}` is {int(found)}, must be {int(expected)}")
    if _is_zero_point(name) and not _in_range(found):
        raise ArtifactError(f"tensor `{name}` holds a zero point outside of 8 bits")


def _is_scale(name: str) -> bool:
    last = name.rpartition(".")[2]
    return last == "scale" or "_scale_" in last


def _is_zero_point(name: str) -> bool:
    last = name.rpartition(".")[2]
    return last == "zero_point" or "_zero_point_" in last


def _in_range(found: Tensor) -> bool:
    if found.is_floating_point():  # embeddings hold theirs as a real number
        return bool(torch.isfinite(found).all())
    return bool(((found >= -128) & (found <= 255)).all())


def _shown(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def fill(module: nn.Module, plain: Mapping[str, Tensor]) -> None:
    """Put what ``to_plain`` gave into a module of the same structure; nothing is recomputed.

    Raises:
        ArtifactError: as ``check_plain``.
    """
    check_plain(plain, module)
    state = module.state_dict()
    for name, value in state.items():
        if isinstance(value, tuple):
            state[name] = tuple(
                _real_tensor(f"{name}.{number}", piece, plain) for number, piece in enumerate(value)
            )
        else:
            state[name] = _real_tensor(name, value, plain)
    module.load_state_dict(state, strict=True)


def _real_tensor(name: str, like: Any, plain: Mapping[str, Tensor]) -> Any:
    if not isinstance(like, Tensor):
        return like
    if not like.is_quantized:
        return plain[name]
    numbers = plain[f"{name}.int_repr"]
    scale, zero_point = plain[f"{name}.scale"], plain[f"{name}.zero_point"]
    if like.qscheme() in _AFFINE:
        return torch._make_per_tensor_quantized_tensor(numbers, float(scale), int(zero_point))
    axis = int(plain[f"{name}.axis"])
    return torch._make_per_channel_quantized_tensor(numbers, scale, zero_point, axis)
