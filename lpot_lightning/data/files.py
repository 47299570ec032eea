"""Data sets in files of this machine; nothing is downloaded or unpickled."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np

from lpot_lightning.data.images import EXTENSIONS, pillow, read_image
from lpot_lightning.data.source import Source
from lpot_lightning.errors import DataError, in_short

_SIDE, _PIXELS = 32, 3 * 32 * 32


def image_folder(root: str) -> Source:
    """Images in a folder for each class; classes are numbered in the order of their names."""
    pillow()
    folder = _folder(root, "ImageFolder", "a folder for each class, with its images")
    classes = sorted(one.name for one in folder.iterdir() if one.is_dir())
    if not classes:
        raise DataError(
            f"`{folder}` holds no folders; `ImageFolder` expects one for each class, with its"
            " images: `root/cat/1.jpg`, `root/dog/2.jpg`"
        )
    found = [(path, number) for number, name in enumerate(classes) for path in _in(folder / name)]
    return Source(
        "ImageFolder",
        len(found),
        lambda number: read_image(found[number][0]),
        lambda number: found[number][1],
    )


def cifar10(root: str, train: bool = False, download: bool = False) -> Source:
    """CIFAR-10, the binary version."""
    names = [f"data_batch_{n}.bin" for n in range(1, 6)] if train else ["test_batch.bin"]
    return _cifar("CIFAR10", root, "cifar-10-batches-bin", names, "data_batch_1", 1)


def cifar100(root: str, train: bool = False, download: bool = False) -> Source:
    """CIFAR-100, the binary version, with its 100 fine classes."""
    names = ["train.bin" if train else "test.bin"]
    return _cifar("CIFAR100", root, "cifar-100-binary", names, "meta", 2)


def mnist(root: str, train: bool = False, download: bool = False) -> Source:
    """MNIST in its idx files, plain or gzipped."""
    return _idx("MNIST", root, train)


def fashion_mnist(root: str, train: bool = False, download: bool = False) -> Source:
    """Fashion-MNIST in its idx files, plain or gzipped."""
    return _idx("FashionMNIST", root, train)


def _folder(root: str, name: str, expected: str) -> Path:
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"`{name}` has the `root` `{folder}`, which is no folder; expected: {expected}; nothing"
            " is downloaded"
        )
    return folder


def _in(folder: Path) -> list[Path]:
    found = sorted(
        Path(place) / name
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(EXTENSIONS)
    )
    if not found:
        raise DataError(
            f"`{folder}` holds no images; `ImageFolder` expects some for each class, of the kinds"
            f" {', '.join(EXTENSIONS)}"
        )
    return found


def _cifar(name: str, root: str, inner: str, names: list[str], pickled: str, labels: int) -> Source:
    """Read records of the label bytes, of which the last counts, and the planes of an image."""
    pillow()
    number = name.removeprefix("CIFAR")
    archive = f"cifar-{number}-binary.tar.gz"
    expected = f"`{inner}/{names[0]}` of `{archive}`, the binary version of CIFAR-{number}"
    folder = _folder(root, name, expected)
    places = [folder / inner, folder]
    found = next((one for one in places if (one / names[0]).is_file()), None)
    if found is None:
        for place in (folder, *(one for one in folder.iterdir() if one.is_dir())):
            if (place / pickled).is_file():
                raise DataError(
                    f"`{place}` is the Python version of CIFAR-{number}, which is pickled: reading"
                    f" it can run code, so it is not read; unpack `{archive}` there, the binary"
                    " version, from https://www.cs.toronto.edu/~kriz/cifar.html"
                )
        raise DataError(
            f"`{folder}` does not hold {name}; expected: {expected}, unpacked there, from"
            " https://www.cs.toronto.edu/~kriz/cifar.html; nothing is downloaded"
        )
    rows = np.concatenate([_records(found / one, labels + _PIXELS) for one in names])
    numbers = rows[:, labels - 1].astype(int).tolist()
    images = rows[:, labels:].reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
    return Source(
        name,
        len(rows),
        lambda number: pillow().fromarray(np.ascontiguousarray(images[number])),
        numbers.__getitem__,
    )


def _records(path: Path, size: int) -> Any:
    content = np.frombuffer(_content(path), np.uint8)
    if not len(content) or len(content) % size:
        raise DataError(
            f"`{path}` has {len(content)} bytes, which are no whole records of {size}: it is"
            " damaged, or something else; unpack it again"
        )
    return content.reshape(-1, size)


def _idx(name: str, root: str, train: bool) -> Source:
    pillow()
    part = "train" if train else "t10k"
    expected = f"`{part}-images-idx3-ubyte` and `{part}-labels-idx1-ubyte`, plain or `.gz`"
    folder = _folder(root, name, expected)
    places = [folder, folder / name, folder / "raw", folder / name / "raw"]
    images = _idx_file(name, places, f"{part}-images-idx3-ubyte", 3, expected)
    labels = _idx_file(name, places, f"{part}-labels-idx1-ubyte", 1, expected)
    if len(images) != len(labels):
        raise DataError(
            f"`{folder}` has {len(images)} images and {len(labels)} labels of {name}; expected: as"
            " many"
        )
    numbers = labels.astype(int).tolist()
    return Source(
        name,
        len(images),
        lambda number: pillow().fromarray(np.ascontiguousarray(images[number])),
        numbers.__getitem__,
    )


def _idx_file(name: str, places: list[Path], file: str, dimensions: int, expected: str) -> Any:
    for path in (place / f"{file}{end}" for place in places for end in ("", ".gz")):
        if path.is_file():
            return _idx_array(path, dimensions)
    looked = ", ".join(f"`{place}`" for place in places)
    raise DataError(
        f"there is no `{file}` of {name} in {looked}; expected: {expected}; nothing is downloaded"
    )


def _idx_array(path: Path, dimensions: int) -> Any:
    """Return what an idx file of bytes holds: a magic number, the sizes, the bytes."""
    content = _content(path)
    head = 4 * (1 + dimensions)
    whole = content if len(content) >= head else bytes(head)
    numbers = np.frombuffer(whole, ">u4", count=1 + dimensions).astype(int).tolist()
    if numbers[0] != 0x0800 + dimensions:
        raise DataError(f"`{path}` is no idx file of {dimensions} dimensions: it is damaged")
    shape = numbers[1:]
    if len(content) != head + int(np.prod(shape)):
        raise DataError(f"`{path}` is cut off: {len(content) - head} bytes for the shape {shape}")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


def _content(path: Path) -> bytes:
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                return file.read()
        return path.read_bytes()
    except (OSError, EOFError) as error:
        raise DataError(f"`{path}` cannot be read ({in_short(error)})") from error
