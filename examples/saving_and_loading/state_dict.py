"""Way 1: a state_dict. The two files of a workspace are one that loads safely and lasts."""

from __future__ import annotations

from pathlib import Path

import torch
from net import Net
from torch import nn

from lpot_lightning import load


def load_files(workspace: Path) -> nn.Module:
    """Return the int8 model from the files that every quantization writes."""
    return load(workspace / "best_configure.yaml", workspace / "best_model_weights.pt", Net())


def save_own(int8: nn.Module, file: Path) -> None:
    """Save the int8 model's own state_dict."""
    torch.save(int8.state_dict(), file)


def load_own(file: Path, workspace: Path) -> nn.Module:
    """Fill an int8 model of the same recipe with it."""
    int8 = load_files(workspace)
    int8.load_state_dict(torch.load(file, weights_only=True))
    return int8.eval()
