"""Data sets of random numbers, the same each time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lpot_lightning.data.source import SampleSource
from lpot_lightning.errors import ConfError, quoted

SEED = 9527
"""LPOT's; the numbers of `dummy` are those that it draws."""
DTYPES = {
    "float32": np.float32,
    "float16": np.float16,
    "uint8": np.uint8,
    "int8": np.int8,
    "int32": np.int32,
    "int64": np.int64,
    "bool": np.bool_,
}
Shape = tuple[int, ...]
Bound = float | Sequence[float]
Setting = tuple[float, float, str]


def dummy(
    shape: Shape | Sequence[Shape],
    low: Bound = -128.0,
    high: Bound = 127.0,
    dtype: Sequence[str] = ("float32",),
    label: bool = False,
) -> SampleSource:
    """Numbers between ``low`` and ``high``, of which the first dimension counts the samples.

    Several shapes are several inputs; ``label`` adds the label 0.

    Example::

        dummy((100, 3, 8, 8), low=0.0, high=1.0, label=True)
    """
    shapes, settings = _of_dummy(shape, low, high, dtype)
    drawn = _drawn(np.random.RandomState(SEED), shapes, settings)

    def at(number: int) -> Any:
        inputs = tuple(one[number] for one in drawn)
        return inputs[0] if len(inputs) == 1 else inputs

    return SampleSource(
        name="dummy",
        count=shapes[0][0],
        input=at,
        label=(lambda _: 0) if label else None,
        images=False,
    )


def dummy_v2(
    input_shape: Shape | Sequence[Shape],
    label_shape: Shape | Sequence[Shape] | None = None,
    low: Bound = -128.0,
    high: Bound = 127.0,
    dtype: Sequence[str] = ("float32",),
) -> SampleSource:
    """Samples of these shapes without end; each is drawn by its number.

    Example::

        dummy_v2((3, 8, 8), label_shape=(1,))
    """
    inputs, labels, settings = _of_dummy_v2(input_shape, label_shape, low, high, dtype)

    def parts(number: int) -> tuple[list[Tensor], list[Tensor]]:
        found = _drawn(np.random.RandomState([SEED, number]), inputs + labels, settings)
        return found[: len(inputs)], found[len(inputs) :]

    def alone(found: list[Tensor]) -> Any:
        return found[0] if len(found) == 1 else tuple(found)

    return SampleSource(
        name="dummy_v2",
        count=None,
        input=lambda number: alone(parts(number)[0]),
        label=(lambda number: alone(parts(number)[1])) if labels else None,
        images=False,
    )


def _of_dummy(
    shape: Shape | Sequence[Shape],
    low: Bound = -128.0,
    high: Bound = 127.0,
    dtype: Sequence[str] = ("float32",),
    label: bool = False,
) -> tuple[list[Shape], list[Setting]]:
    """Return the shapes of all samples, and how each is drawn; nothing is drawn yet."""
    shapes = _shapes(shape)
    if len({one[0] for one in shapes}) > 1:
        raise ConfError(f"`shape` is {_listed(shapes)}; allowed: shapes that begin with one number")
    return shapes, _each(shapes, low, high, dtype)


def _of_dummy_v2(
    input_shape: Shape | Sequence[Shape],
    label_shape: Shape | Sequence[Shape] | None = None,
    low: Bound = -128.0,
    high: Bound = 127.0,
    dtype: Sequence[str] = ("float32",),
) -> tuple[list[Shape], list[Shape], list[Setting]]:
    """Return the shapes of one sample's inputs and labels, and how each is drawn."""
    inputs, labels = _shapes(input_shape), _shapes(label_shape) if label_shape else []
    return inputs, labels, _each(inputs + labels, low, high, dtype)


WITHOUT_FILES: dict[str, Callable[..., object]] = {"dummy": _of_dummy, "dummy_v2": _of_dummy_v2}
"""What checks the options of a data set that needs no file."""


def _shapes(shape: Any) -> list[Shape]:
    return [tuple(one) for one in shape] if isinstance(shape[0], list | tuple) else [tuple(shape)]


def _each(shapes: list[Shape], low: Bound, high: Bound, dtype: Sequence[str]) -> list[Setting]:
    """Return low, high and dtype of each shape."""
    count = len(shapes)
    lows, highs = _as_many("low", low, count), _as_many("high", high, count)
    dtypes = _as_many("dtype", (dtype,) if isinstance(dtype, str) else dtype, count)
    for one in dtypes:
        if one not in DTYPES:
            raise ConfError(f"`dtype` is `{one}`; allowed: {quoted(DTYPES)}")
    for least, most in zip(lows, highs, strict=True):
        if least > most:
            raise ConfError(f"`low` is {least}, `high` is {most}; allowed: `low` up to `high`")
    return list(zip(lows, highs, dtypes, strict=True))


def _as_many(name: str, value: Any, count: int) -> list[Any]:
    given = list(value) if isinstance(value, list | tuple) else [value]
    if len(given) not in (1, count):
        raise ConfError(f"`{name}` has {len(given)} values for {count} shapes; allowed: 1, {count}")
    return given * count if len(given) == 1 else given


def _drawn(
    random: np.random.RandomState, shapes: list[Shape], settings: list[tuple[float, float, str]]
) -> list[Tensor]:
    return [
        torch.from_numpy(np.asarray(random.uniform(low, high, shape)).astype(DTYPES[dtype]))
        for shape, (low, high, dtype) in zip(shapes, settings, strict=True)
    ]


def _listed(shapes: list[Shape]) -> str:
    return ", ".join(str(list(shape)) for shape in shapes)
