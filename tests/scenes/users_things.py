"""What README, pages and docstrings take for granted: a user's classes, objects and files.

Each is made when a statement first names it; what takes long, once for all of them.
"""

from __future__ import annotations

import ast
import copy
import functools
import re
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from PIL import Image
from shown_code import Block, run
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy
from users_digits import DigitsData, LitDigits, halves, model
from users_yamls import PRUNING, PTQ, QAT, YAMLS

import lpot_lightning
from lpot_lightning import PruningCallback, QATCallback, QuantizationCallback, TuningResult

FOLDERS = ("lpot_workspace/pytorch_fx/digits", "ws", "workspace")
IMPORTED: dict[str, Any] = {
    **{name: getattr(lpot_lightning, name) for name in lpot_lightning.__all__},
    **{one.__name__: one for one in (pl.Trainer, pl.LightningModule, EarlyStopping)},
    **{one.__name__: one for one in (ModelCheckpoint, DataLoader, MulticlassAccuracy)},
    **{one.__name__: one for one in (DigitsData, LitDigits, Path)},
    **{"torch": torch, "nn": nn, "lpot_lightning": lpot_lightning},
}
"""What a page or a docstring may use without importing it."""


def trainer(**given: Any) -> pl.Trainer:
    quiet = ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing")
    return pl.Trainer(**{"accelerator": "cpu", **dict.fromkeys(quiet, False), **given})


class Made:
    """What takes long, in a folder of the test run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @functools.cached_property
    def callback(self) -> QuantizationCallback:
        """That of a fit which is over; its files are in ``ws``."""
        made = QuantizationCallback(self._conf(PTQ))
        trainer(callbacks=[made], max_epochs=0).fit(model(), datamodule=DigitsData())
        return made

    def _conf(self, text: str) -> Path:
        path = self._folder / "conf.yaml"
        path.write_text(text.replace("tuning: {", f"tuning: {{workspace: {{path: {self.ws}}}, "))
        return path

    @property
    def ws(self) -> Path:
        return self._folder / "ws"

    @functools.cached_property
    def result(self) -> TuningResult:
        assert self.callback.result is not None
        return self.callback.result

    def workspace(self, path: Path) -> None:
        """Write the files of a quantization and of a pruning."""
        _ = self.result, self.pruned
        shutil.copytree(self.ws, path, dirs_exist_ok=True)

    @functools.cached_property
    def pruned(self) -> PruningCallback:
        made = PruningCallback(self._conf(PRUNING), monitor="val_acc")
        trainer(callbacks=[made], max_epochs=3).fit(model(), datamodule=DigitsData())
        return made

    def checkpoint(self, path: Path) -> None:
        """Write what a training leaves that rounds as int8."""
        made = self._folder / "qat.ckpt"
        if not made.exists():
            qat = trainer(callbacks=[QATCallback(self._conf(QAT))], max_epochs=1)
            qat.fit(model(), datamodule=DigitsData())
            qat.save_checkpoint(made)
        shutil.copy(made, path)

    def exported(self, path: Path) -> None:
        """Write the int8 model in the form that the ending says."""
        made = self._folder / f"int8{''.join(path.suffixes)}"
        if not made.exists():
            self.result.export(made, check=False)
        for one in made.parent.glob(f"{made.stem}.*"):
            if one.suffix == path.suffix or (path.suffix, one.suffix) == (".xml", ".bin"):
                shutil.copy(one, path.with_suffix(one.suffix))


class Things:
    """What a user has, by the name that a page gives it; each statement finds what it names."""

    def __init__(self, made: Made, **names: Any) -> None:
        self.made = made
        self.programs: dict[str, Block] = {}
        self.module = types.ModuleType("shown")  # torch imports that of a class
        self.names = vars(self.module)
        self.names |= {**names, "__name__": "shown", "__tracebackhide__": True}

    def run(self, block: Block) -> None:
        """Run a block of Python with what it names."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, self.module.__name__, self.module)
            run(block, self.names, self._prepare)

    def keep(self, block: Block) -> None:
        """Write a block that gives its name, and the images that it names."""
        Path(block.name).parent.mkdir(parents=True, exist_ok=True)
        Path(block.name).write_text(block.code)
        self.programs[block.name] = block
        for root in re.findall(r"root: ([\w/]+)", block.code):
            pictures(Path(root))

    def kinds(self) -> tuple[Any, Any]:
        """Return the classes of a model and of data: those of a block, else the user's."""
        own = [one for one in self.names.values() if getattr(one, "__module__", "") == "shown"]
        asked = (pl.LightningModule, LitDigits), (pl.LightningDataModule, DigitsData)
        return tuple(
            next((one for one in own if isinstance(one, type) and issubclass(one, kind)), usual)
            for kind, usual in asked
        )  # type: ignore[return-value]

    def _prepare(self, statement: ast.AST) -> None:
        for node in ast.walk(statement):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                self.write(node.value)
            elif isinstance(node, ast.Name) and node.id not in self.names:
                self._bring(node.id)

    def _bring(self, name: str) -> None:
        if name in IMPORTED:
            self.names[name] = IMPORTED[name]
        elif maker := getattr(self, f"make_{name}", None):
            self.names[name] = maker()

    def _bring_all(self, *names: str) -> None:
        for name in names:
            if name not in self.names:
                self._bring(name)

    def write(self, name: str) -> None:
        """Write the file or the folder of that name, if a user would have it."""
        path = Path(name)
        if path.exists() or path.is_absolute():
            return
        if name in YAMLS:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(YAMLS[name])
        elif path.suffix == ".ckpt" and len(path.parts) == 1:
            self.made.checkpoint(path)
        elif path.suffix in (".onnx", ".xml", ".pt2", ".ts") and len(path.parts) == 1:
            self.made.exported(path)
        for folder in FOLDERS:
            if path.is_relative_to(folder) and not Path(folder).exists():
                self.made.workspace(Path(folder))

    make_model = staticmethod(model)
    make_data = make_datamodule = staticmethod(DigitsData)

    def make_trainer(self) -> pl.Trainer:
        return trainer(max_epochs=1)

    def make_result(self) -> TuningResult:
        return self.made.result

    def make_callback(self) -> QuantizationCallback:
        return self.made.callback

    make_quantization = make_callback

    def make_int8(self) -> nn.Module:
        return copy.deepcopy(self.made.result.model)

    def make_ws(self) -> Path:
        self.made.workspace(Path("ws"))
        return Path("ws")

    make_workspace = make_folder = make_ws

    def make_images(self) -> Tensor:
        return halves(4, 2).tensors[0]

    def make_loader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DigitsData().val_dataloader()

    make_dataloader = make_loader

    def make_test_set(self) -> Any:
        return halves(64, 1)

    make_dataset = make_train_set = make_test_set

    def make_accuracy(self) -> Callable[..., float]:
        return accuracy

    make_eval_func = make_accuracy

    def make_train(self) -> Callable[[nn.Module], None]:
        return train


def pictures(root: Path) -> None:
    """Write images of two kinds, dark and bright ones."""
    for number in range(100):
        path = root / ("bright" if number % 2 else "dark") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number + 100 * (number % 2),) * 3).save(path)


def colour_net() -> nn.Module:
    """Return a net for images of any size."""
    stem = nn.Conv2d(3, 4, 8, stride=8)
    return nn.Sequential(stem, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def accuracy(model: nn.Module, data: Any = None) -> float:
    images, labels = halves(64, 1).tensors
    return float((model(images).argmax(1) == labels).float().mean())


def train(model: nn.Module) -> None:
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    for images, labels in DigitsData().train_dataloader():
        adam.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        adam.step()
