"""Way 4: a general checkpoint, to go on training in fp32 and to run in int8, from one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from files import files_of, model_from
from torch import nn
from torch.optim import Optimizer


def save(
    file: Path, model: nn.Module, optimizer: Optimizer, epoch: int, loss: float, workspace: Path
) -> None:
    """Save what a training needs to go on, and the int8 model of this epoch."""
    content = {
        "epoch": epoch,
        "loss": loss,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        **files_of(workspace),
    }
    torch.save(content, file)


def resume(file: Path, model: nn.Module, optimizer: Optimizer) -> tuple[int, float]:
    """Fill model and optimizer, and return the epoch and its loss."""
    saved = _read(file)
    model.load_state_dict(saved["model_state_dict"])
    optimizer.load_state_dict(saved["optimizer_state_dict"])
    model.train()
    return saved["epoch"], saved["loss"]


def int8_of(file: Path, model: nn.Module) -> nn.Module:
    """Return the int8 model; ``model`` is one that its class makes."""
    return model_from(_read(file), model)


def _read(file: Path) -> dict[str, Any]:
    return torch.load(file, weights_only=True)
