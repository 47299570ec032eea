"""The door to Pillow, and what counts as an image."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from lpot_lightning.data.places import content_of
from lpot_lightning.errors import ConfError, DataError, in_short

if TYPE_CHECKING:
    from PIL.Image import Image

Transform = Callable[[Any], Any]
"""Takes an input of a data set and gives what it becomes."""
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")
"""What `EXTENSIONS` stand for. Pillow goes by the content, and starts Ghostscript for an EPS."""
MAX_BYTES = 256 << 20
"""Of a file: Pillow takes up to 179 million pixels, which are 512 MiB, and less when packed."""
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def pillow() -> ModuleType:
    """Return ``PIL.Image``.

    Raises:
        ConfError: if Pillow is not installed.
    """
    try:
        import PIL.Image
    except ImportError as error:
        raise ConfError(
            "images are read and transformed by Pillow, which is not installed:"
            " `pip install 'lpot-lightning[images]'`"
        ) from error
    return PIL.Image


def read_image(path: Path) -> Image:
    """Return the image of a file as RGB.

    Raises:
        DataError: if it cannot be read, or has more pixels than an image.
    """
    images, content = pillow(), io.BytesIO(content_of(path, MAX_BYTES))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", images.DecompressionBombWarning)
            with images.open(content, formats=FORMATS) as image:
                read: Image = image.convert("RGB")
                return read
    except images.UnidentifiedImageError as error:  # its text is the address of a buffer
        reason = f"{type(error).__name__}: it is none of {', '.join(FORMATS)}"
        raise DataError(f"`{path}` cannot be read as an image ({reason})") from error
    except Exception as error:  # Pillow raises many kinds for a damaged file
        raise DataError(f"`{path}` cannot be read as an image ({in_short(error)})") from error


def as_image(value: Any, name: str) -> Image:
    """Return an image, or an array that is one, for the transform ``name``.

    Raises:
        DataError: if it is something else.
    """
    if isinstance(value, pillow().Image):
        image: Image = value
        return image
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim in (2, 3):
        made: Image = pillow().fromarray(value.squeeze(-1) if value.shape[2:] == (1,) else value)
        return made
    raise DataError(f"`{name}` is given {described(value)}; allowed: an image{_hint(value)}")


def described(value: Any) -> str:
    """Return what a value is, for people."""
    if isinstance(value, Tensor | np.ndarray):
        return f"a `{type(value).__name__}` {list(value.shape)} of `{value.dtype}`"
    return f"a `{type(value).__name__}`"


def _hint(value: Any) -> str:
    after = ": put it before `ToTensor`, or put `ToPILImage` before it"
    return after if isinstance(value, Tensor | np.ndarray) else ""
