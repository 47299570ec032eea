"""A `dataloader` block becomes a loader."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from lpot_lightning.conf.reader import read_conf
from lpot_lightning.data.batches import call_with, label_of
from lpot_lightning.data.block import loader_of
from lpot_lightning.errors import ConfError, DataError, NotYetError

DUMMY = {"dummy": {"shape": [5, 3, 4, 4], "label": True}}
ENDLESS = {"dummy_v2": {"input_shape": [3], "label_shape": [2]}}


def loader(dataset: Any, **given: Any) -> DataLoader[Any]:
    block = {"dataset": dataset, **given}
    conf = {
        "model": {"name": "net", "framework": "pytorch_fx"},
        "evaluation": {"accuracy": {"dataloader": block}},
    }
    read = read_conf(conf).evaluation.accuracy.dataloader
    return loader_of(read, "q.yaml: `here`")


@pytest.fixture
def images(tmp_path: Path) -> str:
    for name, level in {"cat": 100, "dog": 200}.items():
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("RGB", (30, 40), (level, number, 0)).save(tmp_path / name / f"{number}.png")
    return str(tmp_path)


def test_images_of_a_folder_in_batches(images: str) -> None:
    transform = {
        "Resize": {"size": 24},
        "CenterCrop": {"size": 24},
        "ToTensor": {},
        "Normalize": {"mean": [0.5], "std": [0.5]},
    }
    batches = list(loader({"ImageFolder": {"root": images}}, batch_size=4, transform=transform))
    (first, labels), (rest, _) = batches
    assert (first.shape, rest.shape) == ((4, 3, 24, 24), (2, 3, 24, 24))
    assert labels.tolist() == [0, 0, 0, 1]
    assert first[3, 0, 0, 0] == pytest.approx((200 / 255 - 0.5) / 0.5)


def test_the_order_of_transforms_is_that_of_the_yaml(images: str) -> None:
    transform = {"CenterCrop": {"size": 24}, "Resize": {"size": 12}, "ToArray": {}}
    (batch, _), *_ = loader({"ImageFolder": {"root": images}}, transform=transform)
    assert batch.shape == (1, 12, 12, 3)
    with pytest.raises(DataError, match="`Normalize` is given a `Image`.*put `ToTensor` before"):
        next(iter(loader({"ImageFolder": {"root": images}}, transform={"Normalize": {}})))


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        ({"batch_size": 2}, [2, 2, 1]),
        ({"batch_size": 2, "last_batch": "discard"}, [2, 2]),
        ({}, [1] * 5),
    ],
)
def test_batches(given: Any, sizes: list[int]) -> None:
    assert [len(labels) for _, labels in loader(DUMMY, **given)] == sizes


def test_shuffle_goes_by_the_seed(images: str) -> None:
    shuffled = loader({"ImageFolder": {"root": images}}, shuffle=True)
    orders = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        orders.append([int(image[0, 0, 0, 1]) * 10 + int(label) for image, label in shuffled])
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])


def test_an_endless_one_is_taken_as_far_as_needed() -> None:
    (first, labels), *_ = islice(loader(ENDLESS, batch_size=6), 3)
    assert (first.shape, labels.shape) == ((6, 3), (6, 2))


@pytest.mark.parametrize("label", [True, False])
def test_several_inputs_are_several_arguments(label: bool) -> None:
    dummy = {"shape": [[4, 3], [4, 5]], "low": [0, -1], "high": 1, "label": label}
    batch = next(iter(loader({"dummy": dummy}, batch_size=2)))
    call = call_with(batch)
    assert [tuple(one.shape) for one in call.args] == [(2, 3), (2, 5)]
    assert (label_of(batch) is not None) is label


def test_a_filter_keeps_samples_by_their_labels(images: str) -> None:
    one, two = ({"LabelBalance": {"size": size}} for size in (1, 2))
    assert len(loader({"ImageFolder": {"root": images}}, filter=one)) == 6
    assert len(list(islice(loader(ENDLESS, filter=two), 3))) == 3
    with pytest.raises(DataError, match="q.yaml: `here`: the filter leaves no sample"):
        loader({"ImageFolder": {"root": images}}, filter=two)
    bare = {"dummy": {"shape": [5, 3]}}
    with pytest.raises(DataError, match="a filter looks at labels, and `dummy` has none"):
        loader(bare, filter=one)


def test_what_is_no_image_is_not_transformed(caplog) -> None:
    (batch, _), *_ = loader(DUMMY, transform={"Resize": {"size": 2}})
    assert batch.shape == (1, 3, 4, 4)
    assert "q.yaml: `here`: `transform` has no effect on `dummy`" in caplog.text


@pytest.mark.parametrize(
    ("given", "kind", "match"),
    [
        ({"dataset": {"ImagenetRaw": {"data_path": "x"}}}, NotYetError, "`ImagenetRaw` is not b"),
        ({"dataset": {"COCORaw": {"root": "x"}}}, NotYetError, "`COCORaw` is not built yet: box"),
        (
            {"dataset": {"COCONpy": {"root": "x", "npy_dir": "y"}}},
            NotYetError,
            r"`COCONpy` is not built yet.*`quantization.dataloader\(dataset\)`",
        ),
        ({"dataset": {"MNIST": {"root": "/no"}}}, DataError, "q.yaml: `here`, `dataset`: `MNIST`"),
        (
            {"dataset": {"dummy": {"shape": [2, 3], "dtype": "float"}}},
            ConfError,
            "q.yaml: `here`, `dataset`: `dummy`: `dtype` is `float`; allowed",
        ),
        (
            {"dataset": ENDLESS, "shuffle": True},
            ConfError,
            "`shuffle` needs an end, and `dummy_v2`",
        ),
    ],
)
def test_what_cannot_be_made_is_told_with_its_place(given, kind, match: str) -> None:
    with pytest.raises(kind, match=match):
        loader(**given)


def test_bad_options_of_a_transform_are_told_with_their_place(images: str) -> None:
    with pytest.raises(ConfError, match="q.yaml: `here`, `transform`: `Cast`: `dtype` is `x`; all"):
        loader({"ImageFolder": {"root": images}}, transform={"Cast": {"dtype": "x"}})
