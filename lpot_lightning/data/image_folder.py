"""Images in a folder for each class."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lpot_lightning.data.images import EXTENSIONS, pillow, read_image
from lpot_lightning.data.places import folder_of
from lpot_lightning.data.source import SampleSource
from lpot_lightning.errors import DataError


def image_folder(root: str) -> SampleSource:
    """Images in a folder for each class; classes are numbered in the order of their names."""
    pillow()
    folder = folder_of(root, "ImageFolder", "a folder for each class, with its images")
    classes = sorted(one.name for one in folder.iterdir() if one.is_dir())
    if not classes:
        raise DataError(
            f"`{folder}` holds no folders; `ImageFolder` expects one for each class, with its"
            " images: `root/cat/1.jpg`, `root/dog/2.jpg`"
        )
    found = [
        (path, number) for number, name in enumerate(classes) for path in _images_in(folder / name)
    ]
    return SampleSource(
        name="ImageFolder",
        count=len(found),
        input=lambda number: read_image(found[number][0]),
        label=lambda number: found[number][1],
    )


def _places_in(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Give each folder below once, with its files: links may lead in circles."""
    seen: set[tuple[int, int]] = set()
    for place, inner, names in os.walk(folder, followlinks=True):
        found = os.stat(place)
        if (found.st_dev, found.st_ino) in seen:
            inner.clear()
            continue
        seen.add((found.st_dev, found.st_ino))
        yield Path(place), names


def _images_in(folder: Path) -> list[Path]:
    found = sorted(
        place / name
        for place, names in _places_in(folder)
        for name in names
        if name.lower().endswith(EXTENSIONS)
    )
    if not found:
        raise DataError(
            f"`{folder}` holds no images; `ImageFolder` expects some for each class, of the kinds"
            f" {', '.join(EXTENSIONS)}"
        )
    return found
