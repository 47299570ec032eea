"""Fixtures of the api's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from plain_scenes import net, quantization
from torch import nn


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the files of a run go, and time as briefly as can be; the folder is not there
    yet.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lpot_lightning.api.speed.WARM_UP", 0)
    monkeypatch.setattr("lpot_lightning.api.speed.MOST", 1)
    return tmp_path / "workspace"


@pytest.fixture
def quantized(workspace: Path) -> tuple[nn.Module, nn.Module]:
    """Return the fp32 model, and the int8 one that is in the workspace, too."""
    model = net()
    return model, quantization(workspace)(model)
