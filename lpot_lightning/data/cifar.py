"""CIFAR in its binary version; the pickled one is not read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lpot_lightning.data.images import pillow
from lpot_lightning.data.places import content_of, folder_of
from lpot_lightning.data.source import SampleSource
from lpot_lightning.errors import DataError

_SIDE, _PIXELS = 32, 3 * 32 * 32
_HOME = "https://www.cs.toronto.edu/~kriz/cifar.html"


def cifar10(root: str, train: bool = False, download: bool = False) -> SampleSource:
    """CIFAR-10, the binary version."""
    names = [f"data_batch_{n}.bin" for n in range(1, 6)] if train else ["test_batch.bin"]
    return _Cifar("10", "cifar-10-batches-bin", "data_batch_1", labels=1).source(root, names)


def cifar100(root: str, train: bool = False, download: bool = False) -> SampleSource:
    """CIFAR-100, the binary version, with its 100 fine classes."""
    names = ["train.bin" if train else "test.bin"]
    return _Cifar("100", "cifar-100-binary", "meta", labels=2).source(root, names)


@dataclass(frozen=True)
class _Cifar:
    """One of the two.

    Args:
        number: of classes.
        inner: folder of its archive.
        pickled: a file of its Python version.
        labels: bytes before each image, of which the last is the label.
    """

    number: str
    inner: str
    pickled: str
    labels: int

    @property
    def name(self) -> str:
        return f"CIFAR{self.number}"

    @property
    def archive(self) -> str:
        return f"cifar-{self.number}-binary.tar.gz"

    def source(self, root: str, names: list[str]) -> SampleSource:
        """Return what the files hold; each record is the labels and three planes of an image."""
        pillow()
        found = self._place(root, names[0])
        rows = np.concatenate([_records(found / one, self.labels + _PIXELS) for one in names])
        numbers = rows[:, self.labels - 1].astype(int).tolist()
        images = rows[:, self.labels :].reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
        return SampleSource(
            name=self.name,
            count=len(rows),
            input=lambda number: pillow().fromarray(np.ascontiguousarray(images[number])),
            label=numbers.__getitem__,
        )

    def _place(self, root: str, file: str) -> Path:
        expected = (
            f"`{self.inner}/{file}` of `{self.archive}`, the binary version of CIFAR-{self.number}"
        )
        folder = folder_of(root, self.name, expected)
        for place in (folder / self.inner, folder):
            if (place / file).is_file():
                return place
        for place in (folder, *(one for one in folder.iterdir() if one.is_dir())):
            if (place / self.pickled).is_file():
                raise self._is_pickled(place)
        raise DataError(
            f"`{folder}` does not hold {self.name}; expected: {expected}, unpacked there, from"
            f" {_HOME}; nothing is downloaded"
        )

    def _is_pickled(self, place: Path) -> DataError:
        return DataError(
            f"`{place}` is the Python version of CIFAR-{self.number}, which is pickled: reading it"
            f" can run code, so it is not read; unpack `{self.archive}` there, the binary version,"
            f" from {_HOME}"
        )


def _records(path: Path, size: int) -> Any:
    content = np.frombuffer(content_of(path), np.uint8)
    if not len(content) or len(content) % size:
        raise DataError(
            f"`{path}` has {len(content)} bytes, which are no whole records of {size}: it is"
            " damaged, or something else; unpack it again"
        )
    return content.reshape(-1, size)
