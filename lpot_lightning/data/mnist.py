"""MNIST and Fashion-MNIST in their idx files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from lpot_lightning.data.images import pillow
from lpot_lightning.data.places import content_of, folder_of
from lpot_lightning.data.source import SampleSource
from lpot_lightning.errors import DataError, quoted


def mnist(root: str, train: bool = False, download: bool = False) -> SampleSource:
    """MNIST in its idx files, plain or gzipped."""
    return _idx("MNIST", root, train)


def fashion_mnist(root: str, train: bool = False, download: bool = False) -> SampleSource:
    """Fashion-MNIST in its idx files, plain or gzipped."""
    return _idx("FashionMNIST", root, train)


def _idx(name: str, root: str, train: bool) -> SampleSource:
    pillow()
    part = "train" if train else "t10k"
    expected = f"`{part}-images-idx3-ubyte` and `{part}-labels-idx1-ubyte`, plain or `.gz`"
    folder = folder_of(root, name, expected)
    places = [folder, folder / name, folder / "raw", folder / name / "raw"]
    images = _idx_file(name, places, f"{part}-images-idx3-ubyte", 3, expected)
    labels = _idx_file(name, places, f"{part}-labels-idx1-ubyte", 1, expected)
    if len(images) != len(labels):
        raise DataError(
            f"`{folder}` has {len(images)} images and {len(labels)} labels of {name}; expected: as"
            " many"
        )
    numbers = labels.astype(int).tolist()
    return SampleSource(
        name=name,
        count=len(images),
        input=lambda number: pillow().fromarray(np.ascontiguousarray(images[number])),
        label=numbers.__getitem__,
    )


def _idx_file(name: str, places: list[Path], file: str, dimensions: int, expected: str) -> Any:
    for path in (place / f"{file}{end}" for place in places for end in ("", ".gz")):
        if path.is_file():
            return _idx_array(path, dimensions)
    raise DataError(
        f"there is no `{file}` of {name} in {quoted(places)}; expected: {expected}; nothing is"
        " downloaded"
    )


def _idx_array(path: Path, dimensions: int) -> Any:
    """Return what an idx file of bytes holds: a magic number, the sizes, the bytes."""
    content = content_of(path)
    head = 4 * (1 + dimensions)
    whole = content if len(content) >= head else bytes(head)
    numbers = np.frombuffer(whole, ">u4", count=1 + dimensions).astype(int).tolist()
    if numbers[0] != 0x0800 + dimensions:
        raise DataError(f"`{path}` is no idx file of {dimensions} dimensions: it is damaged")
    shape = numbers[1:]
    if len(content) != head + math.prod(shape):
        raise DataError(f"`{path}` is cut off: {len(content) - head} bytes for the shape {shape}")
    if not math.prod(shape):  # the other sizes may be larger than any array's
        raise DataError(f"`{path}` holds nothing: its shape is {shape}")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)
