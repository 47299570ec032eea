"""Images in a folder for each class: small ones that are generated here, or the user's own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
KINDS = {
    "blob": lambda x, y, r: r < 0.5,
    "bars": lambda x, y, r: np.sin(9 * x) > 0,
    "checks": lambda x, y, r: np.sin(9 * x) * np.sin(9 * y) > 0,
    "cross": lambda x, y, r: (np.abs(x) < 0.2) | (np.abs(y) < 0.2),
    "half": lambda x, y, r: x > 0,
    "ring": lambda x, y, r: np.abs(r - 0.6) < 0.2,
    "rings": lambda x, y, r: np.sin(14 * r) > 0,
    "square": lambda x, y, r: np.maximum(np.abs(x), np.abs(y)) < 0.5,
    "star": lambda x, y, r: np.sin(5 * np.arctan2(y, x)) > 0,
    "wedge": lambda x, y, r: (x > 0) & (np.abs(y) < x),
}
"""What is bright, by a place x, y and its distance r from the middle."""


def generate(
    folder: Path,
    train: int = 60,
    val: int = 40,
    edge: int = 64,
    kinds: Iterable[str] = tuple(KINDS),
) -> Path:
    """Write noisy images, ``train/<kind>/*.png`` and ``val/<kind>/*.png``; return the folder."""
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("val", val)):
        for kind in kinds:
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                image = Image.fromarray(_image(kind, edge, rng))
                image.save(folder / part / kind / f"{number:04}.png")
    return folder


def _image(kind: str, edge: int, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : edge * 1j, -1 : 1 : edge * 1j] / rng.uniform(0.8, 1.2)
    x, y = x - rng.uniform(-0.25, 0.25), y - rng.uniform(-0.25, 0.25)
    turn = rng.uniform(0, 2 * np.pi)
    x, y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
    bright = KINDS[kind](x, y, np.hypot(x, y))[..., None]
    dark_and_light = rng.uniform(0, 255, (2, 3))
    flat = np.where(bright, *dark_and_light)
    return np.clip(flat + rng.normal(0, 40, flat.shape), 0, 255).astype(np.uint8)


class Images:
    """A data set as LPOT's first page wants it: ``(image, number of its class)``, and a length.

    It does what the transforms of ``ptq.yaml`` do.

    Args:
        folder: with a folder for each class in it.
        size: of the square that is cut out of the middle.
    """

    def __init__(self, folder: Path, size: int) -> None:
        kinds = sorted(one.name for one in folder.iterdir() if one.is_dir())
        self.files = [
            (file, number)
            for number, kind in enumerate(kinds)
            for file in sorted((folder / kind).rglob("*"))
            if file.suffix.lower() in (".png", ".jpg", ".jpeg")
        ]
        self.classes, self._size = len(kinds), size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        file, number = self.files[index]
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        pixels = torch.from_numpy(np.array(_middle(image, self._size))).permute(2, 0, 1) / 255
        mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
        return (pixels - mean) / std, number


def shorter_edge(size: int) -> int:
    """Return what an image is resized to before its middle is cut out: 256 for 224."""
    return size * 8 // 7


def _middle(image: Image.Image, size: int) -> Image.Image:
    edge, short = shorter_edge(size), min(image.size)
    width, height = (int(edge * side / short) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))
