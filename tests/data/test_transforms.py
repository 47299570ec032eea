"""LPOT's transforms, by hand-made images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lpot_lightning.conf.dataloader import TRANSFORMS as ALLOWED
from lpot_lightning.data.transforms import TRANSFORMS
from lpot_lightning.errors import ConfError, DataError


def picture(height: int = 6, width: int = 8) -> Image.Image:
    """Return an image whose red counts columns, green rows, blue nothing."""
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([columns, rows, 0 * rows], 2).astype(np.uint8))


def done(name: str, value: Any, **options: Any) -> Any:
    return TRANSFORMS[name](**options)(value)


def red(image: Any) -> list[list[int]]:
    return np.array(image)[:, :, 0].tolist()


def test_the_conf_names_the_same_ones() -> None:
    assert set(TRANSFORMS) == set(ALLOWED)


def test_to_tensor_scales_bytes_and_puts_channels_first() -> None:
    tensor = done("ToTensor", picture())
    assert tensor.shape == (3, 6, 8)
    assert torch.equal(tensor[0, 0] * 255, torch.arange(8.0))
    assert done("ToTensor", picture().convert("L")).shape == (1, 6, 8)
    assert torch.equal(done("ToTensor", np.full((2, 2), 3.0)), torch.full((1, 2, 2), 3.0))


def test_images_arrays_and_tensors_and_back() -> None:
    array = done("ToArray", picture())
    assert array.shape == (6, 8, 3)
    for one in (array, done("ToTensor", picture())):
        assert np.array_equal(np.array(done("ToPILImage", one)), array)
    grey = done("ToTensor", picture().convert("L"))
    assert done("ToPILImage", grey).mode == "L"


def test_crops() -> None:
    image = picture()
    assert red(done("CenterCrop", image, size=[2, 4])) == [[2, 3, 4, 5]] * 2
    assert done("CenterCrop", image, size=10).size == (10, 10)
    assert np.array(done("CenterCrop", image, size=10))[0].max() == 0
    assert red(done("CenterCrop", image, size=[1, 11])) == [[0, *range(8), 0, 0]]
    box = {"offset_height": 1, "offset_width": 6, "target_height": 2, "target_width": 3}
    assert red(done("CropToBoundingBox", image, **box)) == [[6, 7, 0]] * 2
    part = done("CropResize", image, x=2, y=0, width=4, height=2, size=[2, 2])
    assert part.size == (2, 2)
    assert (
        red(done("CropResize", image, x=2, y=0, width=4, height=2, size=[2, 4]))
        == [[2, 3, 4, 5]] * 2
    )


@pytest.mark.parametrize(
    ("size", "expected"), [(3, (4, 3)), ([3], (4, 3)), ([2, 5], (5, 2)), (6, (8, 6))]
)
def test_resize(size, expected) -> None:
    assert done("Resize", picture(), size=size).size == expected
    assert done("Resize", picture(8, 6), size=3).size == (3, 4)


def test_interpolation() -> None:
    image = Image.fromarray(np.array([[0, 200]], np.uint8))
    nearest = done("Resize", image, size=[1, 4], interpolation="nearest")
    assert np.array(nearest).tolist() == [[0, 0, 200, 200]]
    bilinear = done("Resize", image, size=[1, 4], interpolation="bilinear")
    assert np.array(bilinear).tolist() == [[0, 50, 150, 200]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (1067, 800)),
        ({"min_dim": 12, "max_dim": 100}, (16, 12)),
        ({"min_dim": 2, "max_dim": 100}, (8, 6)),
        ({"min_dim": 12, "max_dim": 12}, (12, 9)),
        ({"min_dim": 12, "max_dim": 20, "padding": True}, (20, 20)),
    ],
)
def test_resize_with_ratio(options, expected) -> None:
    assert done("ResizeWithRatio", picture(), **options).size == expected


def test_padding_has_a_value() -> None:
    options = {"min_dim": 6, "max_dim": 12, "padding": True, "constant_value": 9}
    assert red(done("ResizeWithRatio", picture(), **options))[0] == [9] * 12


def test_normalize() -> None:
    value = torch.ones(3, 2, 2)
    assert torch.equal(done("Normalize", value), value)
    several = done("Normalize", value, mean=[0.0, 1.0, 3.0], std=[1.0, 1.0, 2.0])
    assert several[:, 0, 0].tolist() == [1, 0, -1]
    assert done("Normalize", value, mean=[0.5], std=[0.25])[2, 1, 1] == 2


def test_dimensions_channels_and_dtypes() -> None:
    value = torch.ones(3, 2, 4)
    assert done("Transpose", value, perm=[1, 2, 0]).shape == (2, 4, 3)
    assert done("Transpose", value.numpy(), perm=[1, 2, 0]).shape == (2, 4, 3)
    assert done("AlignImageChannel", picture(), dim=1).mode == "L"
    assert done("AlignImageChannel", picture().convert("L")).mode == "RGB"
    assert done("Cast", value, dtype="int64").dtype == torch.int64
    assert isinstance(done("Cast", np.ones(2)), Tensor)


def test_what_is_random_goes_by_the_seed_and_happens() -> None:
    image, found = picture(), {}
    for name, options in {
        "RandomHorizontalFlip": {},
        "RandomVerticalFlip": {},
        "RandomCrop": {"size": [4, 4]},
        "RandomResizedCrop": {"size": 4},
    }.items():
        transform = TRANSFORMS[name](**options)
        runs = []
        for _ in range(2):
            torch.manual_seed(0)
            runs.append([np.array(transform(image)).tobytes() for _ in range(20)])
        assert runs[0] == runs[1]
        found[name] = len(set(runs[0]))
    assert found["RandomHorizontalFlip"] == found["RandomVerticalFlip"] == 2
    assert min(found["RandomCrop"], found["RandomResizedCrop"]) > 4


def test_a_random_crop_that_never_fits_is_the_middle() -> None:
    image = picture(2, 20)
    given = {"size": [2, 2], "scale": [1.0, 1.0], "ratio": [1.0, 1.0], "interpolation": "nearest"}
    assert red(done("RandomResizedCrop", image, **given)) == [[9, 10]] * 2


@pytest.mark.parametrize(
    ("name", "value", "options", "match"),
    [
        ("ToTensor", torch.ones(2), {}, r"`ToTensor` is given a `Tensor` \[2\] of `torch.float32`"),
        ("ToTensor", "x", {}, "`ToTensor` is given a `str`; allowed: an image or an array"),
        ("ToArray", torch.ones(3, 2, 2), {}, "allowed: an image: put it before `ToTensor`"),
        ("Resize", 3, {"size": 2}, "`Resize` is given a `int`; allowed: an image$"),
        ("RandomCrop", picture(), {"size": 7}, "to 7 x 7 is given an image of 6 x 8: put a `Res"),
        ("Normalize", picture(), {}, "`Normalize` is given a `Image`.*put `ToTensor` before it"),
        ("Normalize", torch.ones(1, 2, 2), {"mean": [1, 2], "std": [1, 1]}, "2 numbers.*1 chan"),
        ("Transpose", picture(), {"perm": [1, 0]}, "`Transpose` to .1, 0. is given a `Image`"),
        ("Transpose", torch.ones(2), {"perm": [1, 0]}, "allowed: a tensor or array of 2 dimensio"),
        ("Cast", picture(), {}, "`Cast` is given a `Image`; allowed: a tensor or an array"),
    ],
)
def test_what_comes_at_the_wrong_place_is_told(name, value, options, match: str) -> None:
    with pytest.raises(DataError, match=match):
        done(name, value, **options)


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("Resize", {"size": [1, 2, 3]}, r"`size` is \[1, 2, 3\]; allowed: one number, or"),
        ("RandomResizedCrop", {"size": 2, "scale": [1.0]}, r"`scale` is \[1.0\]; allowed: two"),
        ("RandomResizedCrop", {"size": 2, "ratio": [2.0, 1.0]}, r"`ratio` is \[2.0, 1.0\]"),
        ("Normalize", {"mean": [1, 2], "std": [1, 2, 3]}, "`mean` has 2 numbers, `std` has 3"),
        ("Transpose", {"perm": [1, 2]}, r"`perm` is \[1, 2\]; allowed: each of 0 to 1 once"),
        ("AlignImageChannel", {"dim": 2}, "`dim` is `2`; allowed: `1`, `3`"),
        ("AlignImageChannel", {"dim": 5}, "`dim` is `5`"),
        ("Cast", {"dtype": "float"}, "`dtype` is `float`; allowed: `float32`"),
    ],
)
def test_bad_options(name: str, options, match: str) -> None:
    with pytest.raises(ConfError, match=match):
        TRANSFORMS[name](**options)
