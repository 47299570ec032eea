"""A `dataloader` block: LPOT's data sets and transforms for PyTorch."""

from __future__ import annotations

import re
from typing import Any

from lpot_lightning.conf.blocks import COUNT, DataloaderConf
from lpot_lightning.conf.cursor import Field, read_into
from lpot_lightning.conf.named import (
    Table,
    flag,
    integer,
    integers,
    need,
    number,
    numbers,
    one_of,
    read_each,
    read_named,
    text,
    words,
)


def shape(field: Field) -> tuple[Any, ...] | None:
    """Read ``[3, 224, 224]``, ``"3, 224, 224"`` or a list of such lists."""
    if isinstance(field.value, str):
        return _dimensions(field)
    if isinstance(field.value, list) and field.value and isinstance(field.value[0], list):
        return tuple(integers(item.required(), COUNT) for item in field.items())
    return integers(field, COUNT)


def _dimensions(field: Field) -> tuple[int, ...]:
    sizes = field.words(())
    if not all(re.fullmatch(r"[1-9]\d{0,17}", size, re.ASCII) for size in sizes):
        raise field.wrong('a shape such as `[3, 224, 224]` or "3, 224, 224"')
    return tuple(int(size) for size in sizes)


def size(field: Field) -> int | tuple[int, ...] | None:
    """Read one size, or a list of sizes."""
    return integers(field, COUNT) if isinstance(field.value, list) else field.integer(None, COUNT)


def bound(field: Field) -> float | tuple[float, ...] | None:
    """Read one number, or one for each input."""
    return numbers(field) if isinstance(field.value, list) else field.number(None)


_INTERPOLATION = one_of("nearest", "bilinear", "bicubic")
_VISION = {"root": need(text), "train": flag, "download": flag}
_DUMMY = {"low": bound, "high": bound, "dtype": words}

DATASETS: Table = {
    "CIFAR10": _VISION,
    "CIFAR100": _VISION,
    "MNIST": _VISION,
    "FashionMNIST": _VISION,
    "ImageFolder": {"root": need(text)},
    "ImagenetRaw": {"data_path": need(text), "image_list": text},
    "COCORaw": {"root": need(text), "img_dir": text, "anno_dir": text, "num_cores": integer(COUNT)},
    "COCONpy": {
        "root": need(text),
        "npy_dir": need(text),
        "anno_dir": text,
        "num_cores": integer(COUNT),
    },
    "bert": {
        "root": need(text),
        "label_file": need(text),
        "task": one_of("classifier", "squad"),
        "model_type": one_of("bert", "xlnet", "xlm"),
    },
    "dummy": {"shape": need(shape), "label": flag, **_DUMMY},
    "dummy_v2": {"input_shape": need(shape), "label_shape": shape, **_DUMMY},
}
_OWN_DATA = "give your own data to the `Trainer`, or a loader of it to `Quantization`"
OTHER_DATASETS = {
    "TFRecordDataset": "use `ImageFolder`",
    "ImageRecord": "use `ImageFolder`",
    "Imagenet": "use `ImageFolder`",
    "COCORecord": _OWN_DATA,
    "VOCRecord": _OWN_DATA,
    "style_transfer": _OWN_DATA,
    "GLUE": "use `bert`",
}

TRANSFORMS: Table = {
    "ToTensor": {},
    "ToPILImage": {},
    "ToArray": {},
    "RandomHorizontalFlip": {},
    "RandomVerticalFlip": {},
    "CenterCrop": {"size": need(size)},
    "RandomCrop": {"size": need(size)},
    "Resize": {"size": need(size), "interpolation": _INTERPOLATION},
    "RandomResizedCrop": {
        "size": need(size),
        "scale": numbers,
        "ratio": numbers,
        "interpolation": _INTERPOLATION,
    },
    "CropResize": {
        "x": need(integer()),
        "y": need(integer()),
        "width": need(integer(COUNT)),
        "height": need(integer(COUNT)),
        "size": need(size),
        "interpolation": _INTERPOLATION,
    },
    "CropToBoundingBox": {
        "offset_height": need(integer()),
        "offset_width": need(integer()),
        "target_height": need(integer(COUNT)),
        "target_width": need(integer(COUNT)),
    },
    "ResizeWithRatio": {
        "min_dim": integer(COUNT),
        "max_dim": integer(COUNT),
        "padding": flag,
        "constant_value": number(),
    },
    "Normalize": {"mean": numbers, "std": lambda field: numbers(field, "(0, inf)")},
    "Transpose": {"perm": need(integers)},
    "AlignImageChannel": {"dim": integer(COUNT)},
    "Cast": {"dtype": text},
}
OTHER_TRANSFORMS = {
    "ToNDArray": "use `ToArray`",
    "Rescale": "use `ToTensor`, which scales to 0..1",
    "PaddedCenterCrop": "use `Resize` and `CenterCrop`",
    "QuantizedInput": "leave it out; the input is quantized inside the model",
    "ParseDecodeImagenet": "leave it out; data sets for PyTorch decode images themselves",
    "ParseDecodeCoco": "leave it out; data sets for PyTorch decode images themselves",
    "ParseDecodeVoc": "leave it out; data sets for PyTorch decode images themselves",
    "BilinearImagenet": "use `Resize`, `CenterCrop` and `Normalize`",
    "ResizeCropImagenet": "use `Resize`, `CenterCrop` and `Normalize`",
    "ResizeWithAspectRatio": "use `ResizeWithRatio`",
}
FILTERS: Table = {"LabelBalance": {"size": need(integer(COUNT))}}


def read_dataloader(field: Field) -> DataloaderConf:
    """Read a ``dataloader`` block; a data set is a must in it."""
    misplaced = ("warmup", "iteration")
    part = field.section(
        "dataset", "batch_size", "last_batch", "filter", "transform", "shuffle", *misplaced
    )
    for stray in (part[name] for name in misplaced if part[name].given):
        stray.note("has no effect under a `dataloader`, and belongs to `evaluation.performance`")
    return read_into(
        DataloaderConf,
        part,
        dataset=lambda data: read_named(data, DATASETS, OTHER_DATASETS, _OWN_DATA),
        filter=lambda kept: read_named(kept, FILTERS, {}, _OWN_DATA),
        transform=lambda steps: read_each(steps, TRANSFORMS, OTHER_TRANSFORMS, _OWN_DATA),
    )
