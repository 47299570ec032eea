"""The two files of a workspace as entries of a file of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from lpot_lightning import load

CONFIGURE, WEIGHTS = "best_configure.yaml", "best_model_weights.pt"


def files_of(workspace: Path) -> dict[str, Any]:
    """Return them as bytes in tensors, which ``torch.load(weights_only=True)`` reads."""
    return {
        name: torch.frombuffer(bytearray((workspace / name).read_bytes()), dtype=torch.uint8)
        for name in (CONFIGURE, WEIGHTS)
    }


def model_from(saved: Mapping[str, Any], fp32: nn.Module) -> nn.Module:
    """Return the int8 model of what ``files_of`` gave; byte for byte what was checked before."""
    with TemporaryDirectory() as folder:
        for name in (CONFIGURE, WEIGHTS):
            (Path(folder) / name).write_bytes(saved[name].numpy().tobytes())
        return load(Path(folder) / CONFIGURE, Path(folder) / WEIGHTS, fp32)
