"""Transforms of the size and the part of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from lpot_lightning.data.images import Transform, as_image, pillow
from lpot_lightning.errors import ConfError, DataError

if TYPE_CHECKING:
    from PIL.Image import Image

Size = int | Sequence[int]
_TRIES = 10  # as torchvision's RandomResizedCrop


def random_horizontal_flip() -> Transform:
    """Left and right exchanged, one time in two."""
    return lambda value: _flipped(as_image(value, "RandomHorizontalFlip"), "FLIP_LEFT_RIGHT")


def random_vertical_flip() -> Transform:
    """Top and bottom exchanged, one time in two."""
    return lambda value: _flipped(as_image(value, "RandomVerticalFlip"), "FLIP_TOP_BOTTOM")


def center_crop(size: Size) -> Transform:
    """The middle; what is smaller gets a black border."""
    height, width = _both(size)

    def transform(value: Any) -> Image:
        image = as_image(value, "CenterCrop")
        top, left = _middle(image.height, height), _middle(image.width, width)
        return image.crop((left, top, left + width, top + height))

    return transform


def random_crop(size: Size) -> Transform:
    """A part anywhere."""
    height, width = _both(size)

    def transform(value: Any) -> Image:
        image = as_image(value, "RandomCrop")
        if image.height < height or image.width < width:
            raise DataError(
                f"`RandomCrop` to {height} x {width} is given an image of {image.height} x"
                f" {image.width}: put a `Resize` before it"
            )
        top, left = _below(image.height - height + 1), _below(image.width - width + 1)
        return image.crop((left, top, left + width, top + height))

    return transform


def resize(size: Size, interpolation: str = "bilinear") -> Transform:
    """In a new size: one number is that of the shorter edge, two are height and width."""
    wanted = _sizes(size)
    return lambda value: _resized(as_image(value, "Resize"), wanted, interpolation)


def random_resized_crop(
    size: Size,
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
    interpolation: str = "bilinear",
) -> Transform:
    """A part of random area and shape, in a new size.

    Drawn as by torchvision: an area of ``scale`` times that of the image, a shape of which the
    logarithm is uniform in ``ratio``; after ten that do not fit, the middle.
    """
    wanted = _both(size)
    for name, pair in (("scale", scale), ("ratio", ratio)):
        if len(pair) != 2 or not 0 < pair[0] <= pair[1]:
            raise ConfError(f"`{name}` is {list(pair)}; allowed: two numbers `[min, max]` above 0")

    def transform(value: Any) -> Image:
        image = as_image(value, "RandomResizedCrop")
        box = _drawn_box(image, scale, ratio) or _middle_box(image, ratio)
        return _resized(image.crop(box), wanted, interpolation)

    return transform


def crop_resize(
    x: int, y: int, width: int, height: int, size: Size, interpolation: str = "bilinear"
) -> Transform:
    """The part from ``x``, ``y`` on, in a new size."""
    wanted = _sizes(size)

    def transform(value: Any) -> Image:
        part = as_image(value, "CropResize").crop((x, y, x + width, y + height))
        return _resized(part, wanted, interpolation)

    return transform


def crop_to_bounding_box(
    offset_height: int, offset_width: int, target_height: int, target_width: int
) -> Transform:
    """The part from the offsets on; what lies outside of the image is black."""
    box = (
        offset_width,
        offset_height,
        offset_width + target_width,
        offset_height + target_height,
    )
    return lambda value: as_image(value, "CropToBoundingBox").crop(box)


def resize_with_ratio(
    min_dim: int = 800, max_dim: int = 1365, padding: bool = False, constant_value: float = 0.0
) -> Transform:
    """Enlarged until the shorter edge is ``min_dim``, within ``max_dim``; padded to a square."""

    def transform(value: Any) -> Image:
        image = as_image(value, "ResizeWithRatio")
        scale = max(1.0, min_dim / min(image.size))
        if round(max(image.size) * scale) > max_dim:
            scale = max_dim / max(image.size)
        if scale != 1:
            image = _resized(
                image, (round(image.height * scale), round(image.width * scale)), "bilinear"
            )
        return _padded(image, max_dim, constant_value) if padding else image

    return transform


def _sizes(size: Size) -> tuple[int, ...]:
    given = (size,) if isinstance(size, int) else tuple(size)
    if len(given) not in (1, 2):
        raise ConfError(f"`size` is {list(given)}; allowed: one number, or `[height, width]`")
    return given


def _both(size: Size) -> tuple[int, int]:
    given = _sizes(size)
    return given[0], given[-1]


def _resized(image: Image, size: tuple[int, ...], interpolation: str) -> Image:
    height, width = _scaled_to(image, size[0]) if len(size) == 1 else size
    if (height, width) == (image.height, image.width):
        return image
    return image.resize((width, height), pillow().Resampling[interpolation.upper()])


def _scaled_to(image: Image, shorter: int) -> tuple[int, int]:
    """Return height and width with this shorter edge, rounded down as by torchvision."""
    longer = int(shorter * max(image.size) / min(image.size))
    return (shorter, longer) if image.height <= image.width else (longer, shorter)


def _flipped(image: Image, way: str) -> Image:
    return image.transpose(pillow().Transpose[way]) if float(torch.rand(1)) < 0.5 else image


def _middle(given: int, wanted: int) -> int:
    """Return where the middle begins, rounded as by torchvision; below 0 where a border is due."""
    return round((given - wanted) / 2) if given >= wanted else -((wanted - given) // 2)


def _below(limit: int) -> int:
    return int(torch.randint(0, limit, (1,)))


def _drawn_box(
    image: Image, scale: Sequence[float], ratio: Sequence[float]
) -> tuple[int, int, int, int] | None:
    for _ in range(_TRIES):
        area = image.height * image.width * _uniform(*scale)
        shape = math.exp(_uniform(math.log(ratio[0]), math.log(ratio[1])))
        width, height = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < width <= image.width and 0 < height <= image.height:
            top, left = _below(image.height - height + 1), _below(image.width - width + 1)
            return left, top, left + width, top + height
    return None


def _middle_box(image: Image, ratio: Sequence[float]) -> tuple[int, int, int, int]:
    shape = min(max(image.width / image.height, ratio[0]), ratio[1])
    width = min(image.width, round(image.height * shape))
    height = min(image.height, round(image.width / shape))
    top, left = (image.height - height) // 2, (image.width - width) // 2
    return left, top, left + width, top + height


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(1))


def _padded(image: Image, side: int, value: float) -> Image:
    made: Image = pillow().new(image.mode, (side, side), (int(value),) * len(image.getbands()))
    made.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return made
