"""Samples that are found by number, and those that never end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset, IterableDataset

from lpot_lightning.data.filters import Keep
from lpot_lightning.data.images import Transform
from lpot_lightning.errors import DataError


@dataclass(frozen=True, kw_only=True)
class SampleSource:
    """What a data set of the YAML holds.

    Args:
        name: of the data set.
        count: of samples; ``None`` where they never end.
        input: gives the input with this number.
        label: gives its label; ``None`` where there are none.
        images: whether transforms are done to the inputs.
    """

    name: str
    count: int | None
    input: Callable[[int], Any]
    label: Callable[[int], Any] | None
    images: bool = True

    def sample(self, number: int, transforms: Sequence[Transform]) -> Any:
        """Return ``(input, label)``; without labels the input, ``(input,)`` if it is several."""
        found = self.input(number)
        for transform in transforms:
            found = transform(found)
        if not isinstance(found, tuple) and hasattr(found, "convert"):
            found = np.array(found)  # an image, which no loader makes a batch of
        if self.label is not None:
            return found, self.label(number)
        return (found,) if isinstance(found, tuple) else found


class Samples(Dataset[Any]):
    """The samples of a source that a filter keeps, transformed."""

    def __init__(
        self, source: SampleSource, transforms: Sequence[Transform], keep: Keep | None
    ) -> None:
        self._source, self._transforms = source, tuple(transforms)
        self._numbers: Sequence[int] = range(source.count or 0)
        if keep is not None:
            self._numbers = [n for n in self._numbers if keep(_label(source, n))]
            if not self._numbers:
                raise DataError("the filter leaves no sample of the data set")

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Any:
        return self._source.sample(self._numbers[index], self._transforms)


class Endless(IterableDataset[Any]):
    """The samples of a source that never ends."""

    def __init__(self, source: SampleSource, keep: Keep | None) -> None:
        self._source, self._keep = source, keep

    def __iter__(self) -> Iterator[Any]:
        number = 0
        while True:
            if self._keep is None or self._keep(_label(self._source, number)):
                yield self._source.sample(number, ())
            number += 1


def _label(source: SampleSource, number: int) -> Any:
    if source.label is None:
        raise DataError(f"a filter looks at labels, and `{source.name}` has none: leave it out")
    return source.label(number)
