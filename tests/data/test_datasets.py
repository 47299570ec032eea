"""LPOT's data sets, in files that are made here."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pickle
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lpot_lightning.conf.buildable import NOT_BUILT
from lpot_lightning.conf.dataloader import DATASETS as ALLOWED
from lpot_lightning.data import places
from lpot_lightning.data.datasets import DATASETS
from lpot_lightning.data.images import read_image
from lpot_lightning.data.places import content_of
from lpot_lightning.errors import ConfError, DataError, NotYetError


def test_the_conf_names_the_same_ones() -> None:
    assert set(DATASETS) | set(NOT_BUILT) == set(ALLOWED)
    assert not set(DATASETS) & set(NOT_BUILT)


def sample(name: str, number: int = 0, **options: Any) -> Any:
    return DATASETS[name](**options).sample(number, ())


# Random numbers


def test_dummy_draws_what_lpot_draws_and_leaves_others_alone() -> None:
    before = repr(np.random.get_state())
    made = DATASETS["dummy"](shape=(4, 3), low=-1.0, high=1.0)
    assert repr(np.random.get_state()) == before
    expected = np.random.RandomState(9527).uniform(-1, 1, (4, 3)).astype(np.float32)
    found = torch.stack([made.sample(number, ()) for number in range(4)])
    assert made.count == 4
    assert np.array_equal(found.numpy(), expected)


def test_dummy_has_labels_and_several_inputs() -> None:
    image, label = sample("dummy", shape=(2, 3), label=True)
    assert (image.shape, label) == ((3,), 0)
    given = {"shape": [(2, 3), (2, 5)], "low": [0.0, 5.0], "high": [1.0, 9.0]}
    (pair,) = sample("dummy", **given, dtype=("float32", "int64"))
    assert [(len(one), one.dtype) for one in pair] == [(3, torch.float32), (5, torch.int64)]
    assert 5 <= int(pair[1].min()) <= int(pair[1].max()) < 9
    assert [len(one) for one in sample("dummy", **given, label=True)[0]] == [3, 5]


def test_dummy_v2_never_ends_and_is_the_same_each_time() -> None:
    made = DATASETS["dummy_v2"](input_shape=(3,), label_shape=(1,), low=0.0, high=1.0)
    assert made.count is None
    image, label = made.sample(7, ())
    assert (image.shape, label.shape) == ((3,), (1,))
    assert torch.equal(image, made.sample(7, ())[0])
    assert not torch.equal(image, made.sample(8, ())[0])
    assert sample("dummy_v2", input_shape=(3,)).shape == (3,)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"shape": [(2, 3), (3, 3)]}, r"`shape` is \[2, 3\], \[3, 3\]; allowed: shapes that begin"),
        ({"shape": (2, 3), "dtype": ("float",)}, "`dtype` is `float`; allowed: `float32`"),
        ({"shape": (2, 3), "low": 2.0, "high": 1.0}, "`low` is 2.0, `high` is 1.0"),
        ({"shape": (2, 3), "low": [1.0, 2.0]}, "`low` has 2 values for 1 shapes; allowed: 1, 1"),
    ],
)
def test_bad_options_of_dummy(options, match: str) -> None:
    with pytest.raises(ConfError, match=match):
        DATASETS["dummy"](**options)


# Folders of images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, level in {"dog": 200, "cat": 100}.items():
        for file in ("b.png", "deeper/a.JPG"):
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 2), level).save(path, format="PNG")
        (tmp_path / name / "notes.txt").write_text("no image")
    return tmp_path


def test_image_folder_numbers_classes_by_name(folder: Path) -> None:
    made = DATASETS["ImageFolder"](root=str(folder))
    found = [made.sample(number, ()) for number in range(made.count)]
    assert [(int(image[0, 0, 0]), label) for image, label in found] == [
        (100, 0),
        (100, 0),
        (200, 1),
        (200, 1),
    ]
    assert found[0][0].shape == (2, 4, 3)


def test_a_damaged_image_is_told_by_name(folder: Path) -> None:
    (folder / "cat" / "b.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cat/b\.png` cannot be read as an image .Unident"):
        sample("ImageFolder", 0, root=str(folder))


EPS = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


def test_an_image_runs_no_program(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "bin").mkdir()
    (folder / "bin/gs").write_text(f"#!/bin/sh\ntouch {folder}/ran\n")
    (folder / "bin/gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin", prepend=":")
    for path in folder.rglob("*.png"):
        path.write_text(EPS)
        with pytest.raises(DataError, match="it is none of JPEG, PNG, PPM"):
            read_image(path)
    assert not (folder / "ran").exists()


def test_an_image_of_too_many_pixels_is_refused(tmp_path: Path, monkeypatch) -> None:
    Image.new("L", (40, 40)).save(tmp_path / "1.png")
    for most in (1000, 500):  # Pillow warns of the first, and raises at the second
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        with pytest.raises(DataError, match="DecompressionBomb"):
            read_image(tmp_path / "1.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1600)
    assert read_image(tmp_path / "1.png").size == (40, 40)


@pytest.mark.parametrize("kind", ["jpg", "png", "ppm", "pgm", "bmp", "tif", "tiff", "webp", "jpeg"])
def test_every_extension_is_read(tmp_path: Path, kind: str) -> None:
    Image.new("L", (4, 4)).save(tmp_path / f"1.{kind}")
    assert read_image(tmp_path / f"1.{kind}").mode == "RGB"


def test_what_is_no_image_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "1.png")
    with pytest.raises(DataError, match="it is a FIFO; allowed: a regular file"):
        read_image(tmp_path / "1.png")


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "cat/inner").mkdir(parents=True)
    Image.new("L", (4, 4)).save(tmp_path / "cat/inner/1.png")
    for name in ("a", "b", "c"):
        (tmp_path / "cat/inner" / name).symlink_to("..")
    assert DATASETS["ImageFolder"](root=str(tmp_path)).count == 1


def test_a_bomb_of_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(bytes(3000)))
    assert len(content_of(path, 3000)) == 3000
    with pytest.raises(DataError, match=r"a\.gz` cannot be read \(it has 2.93 KiB; allowed: 2.93"):
        content_of(path, 2999)


def test_what_is_unzipped_is_bounded_more_narrowly_than_a_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(places, "MAX_UNZIPPED", 2000)
    for name, content in {"a.gz": gzip.compress(bytes(3000)), "a": bytes(3000)}.items():
        (tmp_path / name).write_bytes(content)
    assert len(content_of(tmp_path / "a")) == 3000
    with pytest.raises(DataError, match=r"a\.gz` cannot be read \(it has 2.93 KiB; allowed: 1.95"):
        content_of(tmp_path / "a.gz")


def test_a_flipped_gzip_is_told(tmp_path: Path) -> None:
    whole = gzip.compress(bytes(range(256)) * 100)
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 0xFF
        (tmp_path / "a.gz").write_bytes(flipped)
        with contextlib.suppress(DataError):
            content_of(tmp_path / "a.gz")


def test_a_user_who_is_not_there_is_told() -> None:
    with pytest.raises(DataError, match="`MNIST` is given `~nobody-of-this-name/x`: there is no"):
        DATASETS["MNIST"](root="~nobody-of-this-name/x")


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    for root, match in {
        "absent": "`ImageFolder` has the `root` `.*absent`, which is no folder; expected: a folder",
        "": "holds no folders; `ImageFolder` expects one for each class",
    }.items():
        with pytest.raises(DataError, match=match):
            DATASETS["ImageFolder"](root=str(tmp_path / root))
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="cat` holds no images"):
        DATASETS["ImageFolder"](root=str(tmp_path))


# CIFAR


def record(*labels: int, level: int) -> bytes:
    planes = np.zeros((3, 32, 32), np.uint8)
    planes[0], planes[2, 0, 5] = level, 7
    return bytes(labels) + planes.tobytes()


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-bin"])
def test_cifar10_is_read_from_its_binary_version(tmp_path: Path, inner: str) -> None:
    place = tmp_path / inner
    place.mkdir(exist_ok=True)
    (place / "test_batch.bin").write_bytes(record(3, level=10) + record(9, level=20))
    for number in range(1, 6):
        (place / f"data_batch_{number}.bin").write_bytes(record(number, level=number))
    image, label = sample("CIFAR10", 1, root=str(tmp_path))
    assert (image.shape, image[1, 1].tolist(), label) == ((32, 32, 3), [20, 0, 0], 9)
    assert image[0, 5, 2] == 7
    assert sample("CIFAR10", 4, root=str(tmp_path), train=True, download=True)[1] == 5


def test_cifar100_has_fine_labels(tmp_path: Path) -> None:
    (tmp_path / "test.bin").write_bytes(record(1, 42, level=10))
    assert sample("CIFAR100", root=str(tmp_path))[1] == 42


def test_cifar_that_is_pickled_is_not_read(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return pytest.fail, ("it was unpickled",)

    place = tmp_path / "cifar-10-batches-py"
    place.mkdir()
    (place / "data_batch_1").write_bytes(pickle.dumps(Trap()))
    said = "`.*batches-py` is the Python version of CIFAR-10, which is pickled.*`cifar-10-binary"
    with pytest.raises(DataError, match=said):
        DATASETS["CIFAR10"](root=str(tmp_path))


def test_cifar_that_is_missing_or_damaged_is_told(tmp_path: Path) -> None:
    said = "does not hold CIFAR100; expected: `cifar-100-binary/train.bin`.*nothing is downloaded"
    with pytest.raises(DataError, match=said):
        DATASETS["CIFAR100"](root=str(tmp_path), train=True, download=True)
    (tmp_path / "test.bin").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match="100 bytes, which are no whole records of 3074"):
        DATASETS["CIFAR100"](root=str(tmp_path))


# MNIST


def write_idx(path: Path, array: Any, *, zipped: bool = False) -> None:
    head = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(head + array.tobytes()) if zipped else head + array.tobytes())


def write_mnist(place: Path, count: int = 3, part: str = "t10k", **given: Any) -> None:
    images = np.arange(count * 28 * 28, dtype=np.uint8).reshape(count, 28, 28)
    end = ".gz" if given.get("zipped") else ""
    write_idx(place / f"{part}-images-idx3-ubyte{end}", images, **given)
    labels = np.arange(count, dtype=np.uint8) + 4
    write_idx(place / f"{part}-labels-idx1-ubyte{end}", labels, **given)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("name", "inner"), [("MNIST", ""), ("FashionMNIST", "FashionMNIST/raw"), ("MNIST", "MNIST")]
)
def test_mnist_is_read_from_idx_files(tmp_path: Path, name: str, inner: str, zipped) -> None:
    write_mnist(tmp_path / inner, zipped=zipped)
    write_mnist(tmp_path / inner, 5, "train", zipped=zipped)
    image, label = sample(name, 1, root=str(tmp_path))
    assert (image.shape, label) == ((28, 28), 5)
    assert image[0, 0] == 28 * 28 % 256
    assert DATASETS[name](root=str(tmp_path), train=True).count == 5


def test_mnist_that_is_missing_or_damaged_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no `t10k-images-idx3-ubyte` of MNIST in .*expected"):
        DATASETS["MNIST"](root=str(tmp_path))
    write_mnist(tmp_path)
    images, labels = tmp_path / "t10k-images-idx3-ubyte", tmp_path / "t10k-labels-idx1-ubyte"
    content = images.read_bytes()
    for damaged, match in {
        content[:-1]: "is cut off: 2351 bytes for the shape .3, 28, 28.",
        b"x" + content[1:]: "is no idx file of 3 dimensions",
        b"": "is no idx file",
        struct.pack(">4I", 0x0803, 0, 2**32 - 1, 2**32 - 1): "holds nothing: its shape is .0, 4",
    }.items():
        images.write_bytes(damaged)
        with pytest.raises(DataError, match=match):
            DATASETS["MNIST"](root=str(tmp_path))
    images.write_bytes(content)
    write_idx(labels, np.zeros(2, np.uint8))
    with pytest.raises(DataError, match="3 images and 2 labels of MNIST"):
        DATASETS["MNIST"](root=str(tmp_path))
    images.unlink()
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"ubyte\.gz` cannot be read .BadGzipFile"):
        DATASETS["MNIST"](root=str(tmp_path))


# Sentences

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "good", "film", "bad", "##ly", "."]


@pytest.fixture
def bert_folder(tmp_path: Path) -> Path:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    (tmp_path / "dev.tsv").write_text("sentence\tlabel\nA good film .\t1\nbadly\t0\n")
    return tmp_path


def test_bert_makes_tokens_of_sentences(bert_folder: Path) -> None:
    given = {"root": str(bert_folder), "label_file": "dev.tsv"}
    inputs, label = sample("bert", **given)
    assert set(inputs) == {"input_ids", "attention_mask", "token_type_ids"}
    words = [WORDS[number] for number in inputs["input_ids"][:7]]
    assert words == ["[CLS]", "a", "good", "film", ".", "[SEP]", "[PAD]"]
    assert (len(inputs["input_ids"]), int(inputs["attention_mask"].sum()), label) == (128, 6, 1)
    assert [WORDS[n] for n in sample("bert", 1, **given)[0]["input_ids"][1:3]] == ["bad", "##ly"]


def test_bert_takes_pairs_and_names_of_classes(bert_folder: Path) -> None:
    path = bert_folder / "pairs.tsv"
    path.write_text('Quality\t#1 ID\t#1 String\t#2 String\nyes\t5\ta "film\tgood\nno\t6\ta\tbad\n')
    inputs, label = sample("bert", root=str(bert_folder), label_file=str(path))
    assert label == 1
    assert int(inputs["token_type_ids"].sum()) == 2
    path.write_text("sentence1\tsentence2\tscore\na\tgood\t2.5\n")
    assert float(sample("bert", root=str(bert_folder), label_file=str(path))[1]) == 2.5


@pytest.mark.parametrize(
    ("text", "options", "kind", "match"),
    [
        (None, {}, DataError, "which is no file here or in .*expected: a TSV with a header"),
        ("sentence\tlabel\n", {}, DataError, "holds 1 lines; expected: a header, and samples"),
        ("sentence\tlabel\na\n", {}, DataError, "has 1 columns in line 2; expected: 2"),
        ("x\ty\na\t1\n", {}, DataError, "the columns `x`, `y`; expected: a header with `#1 Str"),
        (b"\xff\xfe\x00", {}, DataError, "cannot be read as a TSV .UnicodeDecodeError"),
        ("sentence\tlabel\na\t1", {"task": "squad"}, NotYetError, "asked for `task: squad`"),
        ("sentence\tlabel\na\t1", {"model_type": "xlnet"}, NotYetError, "`model_type: xlnet`"),
        ("sentence\tlabel\na\t1", {"root": "absent"}, DataError, "`absent`, which has no `vocab"),
    ],
)
def test_bad_sentences(bert_folder: Path, text, options, kind, match: str) -> None:
    path = bert_folder / "mine.tsv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    given = {"root": str(bert_folder), "label_file": str(path), **options}
    with pytest.raises(kind, match=match):
        DATASETS["bert"](**given)


# What is not installed


def test_a_damaged_tokenizer_is_told(bert_folder: Path) -> None:
    path = bert_folder / "tokenizer_config.json"
    path.write_text("{")
    with pytest.raises(DataError, match="whose tokenizer cannot be read"):
        sample("bert", root=str(bert_folder), label_file="dev.tsv")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match="it is a FIFO"):
        sample("bert", root=str(bert_folder), label_file="dev.tsv")


@pytest.mark.parametrize(
    ("module", "name", "match"),
    [
        ("PIL", "ImageFolder", r"Pillow, which is not installed: `pip install 'lpot-lightning\[im"),
        ("transformers", "bert", "with transformers, which is not installed"),
    ],
)
def test_what_is_not_installed_is_told(bert_folder, monkeypatch, module, name, match) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, f"{module}.Image", None)
    given = {"label_file": "dev.tsv"} if name == "bert" else {}
    with pytest.raises(ConfError, match=match):
        DATASETS[name](root=str(bert_folder), **given)


def test_a_path_that_is_too_long_is_told():
    with pytest.raises(DataError, match="File name too long"):
        DATASETS["MNIST"](root="x" * 5000)
