"""The transforms that a YAML names."""

from __future__ import annotations

from collections.abc import Callable

from lpot_lightning.data.conversions import (
    align_image_channel,
    cast,
    normalize,
    to_array,
    to_pil_image,
    to_tensor,
    transpose,
)
from lpot_lightning.data.geometry import (
    center_crop,
    crop_resize,
    crop_to_bounding_box,
    random_crop,
    random_horizontal_flip,
    random_resized_crop,
    random_vertical_flip,
    resize,
    resize_with_ratio,
)
from lpot_lightning.data.images import Transform

TRANSFORMS: dict[str, Callable[..., Transform]] = {
    "AlignImageChannel": align_image_channel,
    "Cast": cast,
    "CenterCrop": center_crop,
    "CropResize": crop_resize,
    "CropToBoundingBox": crop_to_bounding_box,
    "Normalize": normalize,
    "RandomCrop": random_crop,
    "RandomHorizontalFlip": random_horizontal_flip,
    "RandomResizedCrop": random_resized_crop,
    "RandomVerticalFlip": random_vertical_flip,
    "Resize": resize,
    "ResizeWithRatio": resize_with_ratio,
    "ToArray": to_array,
    "ToPILImage": to_pil_image,
    "ToTensor": to_tensor,
    "Transpose": transpose,
}
"""LPOT's transforms for PyTorch; each takes the options of the YAML."""
