"""Transforms between images, arrays and tensors, and of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lpot_lightning.data.images import Transform, as_image, described
from lpot_lightning.errors import ConfError, DataError, quoted

if TYPE_CHECKING:
    from PIL.Image import Image

DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
    "uint8": torch.uint8,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "bool": torch.bool,
}


def to_tensor() -> Transform:
    """An image as floats (channels, height, width), those of 8 bits from 0 to 1."""

    def transform(value: Any) -> Tensor:
        if isinstance(value, Tensor):
            raise DataError(
                f"`ToTensor` is given {described(value)}; allowed: an image or an array"
            )
        array = np.array(value)  # a copy that may be written to
        if array.ndim not in (2, 3) or array.dtype == object:
            raise DataError(
                f"`ToTensor` is given {described(value)}; allowed: an image or an array"
            )
        array = array[:, :, None] if array.ndim == 2 else array
        tensor = torch.from_numpy(array.transpose(2, 0, 1).copy())
        return tensor.float().div(255) if array.dtype == np.uint8 else tensor.float()

    return transform


def to_pil_image() -> Transform:
    """A tensor (channels, height, width) or an array (height, width, channels) as an image."""

    def transform(value: Any) -> Image:
        if isinstance(value, Tensor):
            scaled = value.mul(255).byte() if value.is_floating_point() else value.byte()
            value = np.ascontiguousarray(scaled.permute(1, 2, 0).numpy())
        return as_image(value, "ToPILImage")

    return transform


def to_array() -> Transform:
    """An image as a NumPy array (height, width, channels)."""
    return lambda value: np.array(as_image(value, "ToArray"))


def align_image_channel(dim: int = 3) -> Transform:
    """An image in colours (``dim: 3``) or in grey (``dim: 1``)."""
    if dim not in (1, 3):
        raise ConfError(f"`dim` is `{dim}`; allowed: `1`, `3`")
    mode = "RGB" if dim == 3 else "L"
    return lambda value: as_image(value, "AlignImageChannel").convert(mode)


def normalize(mean: Sequence[float] = (0.0,), std: Sequence[float] = (1.0,)) -> Transform:
    """``(value - mean) / std``, with one number or one for each channel."""
    if len(mean) != len(std) and 1 not in (len(mean), len(std)):
        raise ConfError(f"`mean` has {len(mean)} numbers, `std` has {len(std)}; allowed: as many")
    centre = torch.tensor(mean).reshape(-1, 1, 1)
    width = torch.tensor(std).reshape(-1, 1, 1)

    def transform(value: Any) -> Tensor:
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.dim() < 3:
            raise DataError(
                f"`Normalize` is given {described(value)}; allowed: a tensor of floats: put"
                " `ToTensor` before it"
            )
        channels = max(len(centre), len(width))
        if channels not in (1, value.shape[-3]):
            raise DataError(
                f"`Normalize` has {channels} numbers, and an image has {value.shape[-3]} channels"
            )
        return (value - centre) / width

    return transform


def transpose(perm: Sequence[int]) -> Transform:
    """Dimensions in another order."""
    order = tuple(perm)
    if sorted(order) != list(range(len(order))):
        raise ConfError(f"`perm` is {list(order)}; allowed: each of 0 to {len(order) - 1} once")

    def transform(value: Any) -> Any:
        if not isinstance(value, Tensor | np.ndarray) or value.ndim != len(order):
            raise DataError(
                f"`Transpose` to {list(order)} is given {described(value)}; allowed: a tensor or"
                f" array of {len(order)} dimensions: put `ToTensor` or `ToArray` before it"
            )
        return value.permute(order) if isinstance(value, Tensor) else value.transpose(order)

    return transform


def cast(dtype: str = "float32") -> Transform:
    """A tensor of another dtype."""
    if dtype not in DTYPES:
        raise ConfError(f"`dtype` is `{dtype}`; allowed: {quoted(DTYPES)}")

    def transform(value: Any) -> Tensor:
        if not isinstance(value, Tensor | np.ndarray):
            raise DataError(
                f"`Cast` is given {described(value)}; allowed: a tensor or an array: put `ToTensor`"
                " or `ToArray` before it"
            )
        return torch.as_tensor(value).to(DTYPES[dtype])

    return transform
