"""The int8 state as plain dense tensors, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from lpot_lightning.errors import ArtifactError
from lpot_lightning.module.plain_state import check_names_and_shapes, check_scales

_DTYPES = {torch.qint8: torch.int8, torch.quint8: torch.uint8, torch.qint32: torch.int32}
_SCALE, _ZERO_POINT = re.compile(r"_scale_\d+$"), re.compile(r"_zero_point_\d+$")
_AFFINE = (torch.per_tensor_affine, torch.per_tensor_symmetric)


def to_plain(module: nn.Module) -> dict[str, Tensor]:
    """Return the state_dict of ``module`` in primitives.

    A quantized tensor becomes ``name.int_repr``, ``name.scale`` and ``name.zero_point``, per
    channel also ``name.axis``; everything else is as it was. What is no tensor (a dtype, an
    absent bias) follows from the structure and is left out. What has several names is there once.
    A ``state_dict`` that the user's class overrides, to leave a frozen part out, is passed by.
    """
    plain: dict[str, Tensor] = {}
    first = _first_names(module)
    for name, value in nn.Module.state_dict(module).items():
        if first[name] != name:
            continue
        pieces = value if isinstance(value, tuple) else (value,)
        for number, piece in enumerate(pieces):
            full = f"{name}.{number}" if isinstance(value, tuple) else name
            plain.update(_plain_tensor(full, piece))
    return plain


def _first_names(module: nn.Module) -> dict[str, str]:
    """Return for each name of the state_dict the first name of the same thing."""
    owners = dict(module.named_modules(remove_duplicate=False))
    first: dict[tuple[int, str], str] = {}
    found: dict[str, str] = {}
    for name in nn.Module.state_dict(module):
        path, _, last = name.rpartition(".")
        held = owners.get(path)
        tensor = held and {**held._buffers, **held._parameters}.get(last)
        same = (id(tensor), "") if tensor is not None else (id(held), last if held else name)
        found[name] = first.setdefault(same, name)
    return found


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
    scales, zero_points = _qparams(module, expected)
    check_names_and_shapes(plain, expected)
    check_scales(plain, scales)
    for name in {f"{scale.removesuffix('scale')}axis" for scale in scales} & expected.keys():
        if not torch.equal(plain[name], expected[name]):
            raise ArtifactError(f"tensor `{name}` is {plain[name]}, must be {expected[name]}")
    for name in zero_points:
        if not _in_range(plain[name]):
            raise ArtifactError(f"tensor `{name}` holds a zero point outside of 8 bits")


def _qparams(module: nn.Module, expected: Mapping[str, Tensor]) -> tuple[set[str], set[str]]:
    """Return the names of all scales and of all zero points; a user's may be called so, too."""
    scales = {name for name in expected if f"{name.removesuffix('.scale')}.int_repr" in expected}
    scales = {name for name in scales if name.endswith(".scale")}
    points = {f"{name.removesuffix('.scale')}.zero_point" for name in scales}
    for path, part in module.named_modules():
        owner = f"{path}." if path else ""
        if type(part).__module__.startswith("torch.ao.nn"):
            scales |= {f"{owner}scale"} & expected.keys()
            points |= {f"{owner}zero_point"} & expected.keys()
        elif isinstance(part, GraphModule):
            found = [f"{owner}{name}" for name, _ in part.named_buffers(recurse=False)]
            scales |= {name for name in found if _SCALE.search(name)}
            points |= {name for name in found if _ZERO_POINT.search(name)}
    return scales, points


def _in_range(found: Tensor) -> bool:
    if found.is_floating_point():  # embeddings hold theirs as a real number
        return bool(torch.isfinite(found).all())
    return bool(((found >= -128) & (found <= 255)).all())


def fill(module: nn.Module, plain: Mapping[str, Tensor]) -> None:
    """Put what ``to_plain`` gave into a module of the same structure; nothing is recomputed.

    Raises:
        ArtifactError: as ``check_plain``.
    """
    check_plain(plain, module)
    state, first = nn.Module.state_dict(module), _first_names(module)
    for name, value in state.items():
        if isinstance(value, tuple):
            state[name] = tuple(
                _real_tensor(f"{first[name]}.{number}", piece, plain)
                for number, piece in enumerate(value)
            )
        else:
            state[name] = _real_tensor(first[name], value, plain)
    nn.Module.load_state_dict(module, state, strict=True)


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
