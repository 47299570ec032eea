"""Way 3: TorchScript. The file needs neither the class nor lpot_lightning.

python torchscript.py model.pt images.pt    # what the model says to the images
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn


def export(int8: nn.Module, images: Tensor, workspace: Path, file: Path) -> None:
    """Trace the int8 model as it stands: one graph, or several with fp32 between them."""
    with _deprecated(), torch.no_grad():
        _save(torch.jit.freeze(torch.jit.trace(int8, images).eval()), workspace, file)


def load(file: Path) -> nn.Module:
    """Return the model, its weights packed for the engine that it was tuned with."""
    extra = {"engine": ""}
    before = torch.backends.quantized.engine
    with _deprecated():
        torch.jit.load(file, _extra_files=extra)
        torch.backends.quantized.engine = extra["engine"].decode()
        try:
            return torch.jit.load(file).eval()
        finally:
            torch.backends.quantized.engine = before


def _save(scripted: torch.jit.ScriptModule, workspace: Path, file: Path) -> None:
    configure = yaml.safe_load((workspace / "best_configure.yaml").read_text())
    torch.jit.save(scripted, file, _extra_files={"engine": configure["engine"]})


@contextmanager
def _deprecated() -> Iterator[None]:
    """Torch 2.13 says of each of these functions that it will not stay."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        yield


if __name__ == "__main__":
    with torch.no_grad():
        scores = load(Path(sys.argv[1]))(torch.load(sys.argv[2], weights_only=True))
    torch.save(scores, f"{sys.argv[1]}.scores")
