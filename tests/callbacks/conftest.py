"""Fixtures of the callbacks' tests."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lit_scenes import conf

from lpot_lightning import QuantizationCallback


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, with the same random numbers, and time as briefly as can be."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lpot_lightning.api.speed.WARM_UP", 0)
    monkeypatch.setattr("lpot_lightning.api.speed.MOST", 1)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _interrupts_as_before() -> Iterator[None]:
    """Undo that Lightning ignores SIGINT for good once it has seen a KeyboardInterrupt."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Return where the files of a run go; the folder is not there yet."""
    return tmp_path / "workspace"


@pytest.fixture
def callback(workspace: Path) -> Callable[..., QuantizationCallback]:
    """Return a maker of callbacks that write to ``workspace``; sections go to the conf."""
    own = ("monitor", "modules", "calib", "ckpt")

    def make(**given: Any) -> QuantizationCallback:
        arguments = {key: given.pop(key) for key in own if key in given}
        return QuantizationCallback(conf(workspace, **given), **arguments)

    return make
