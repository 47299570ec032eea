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
from torch import Tensor, nn


def export(int8: nn.Module, images: Tensor, file: Path) -> None:
    """Trace the int8 model as it stands; the batch may be of another size later."""
    from lpot_lightning.quantization.kernels.loaded import packed_on_load

    with _deprecated(), torch.no_grad():
        torch.jit.save(packed_on_load(torch.jit.trace(int8, images)), file)


def load(file: Path) -> nn.Module:
    """Return the model; by that its weights are packed."""
    with _deprecated():
        return torch.jit.load(file)


@contextmanager
def _deprecated() -> Iterator[None]:
    """Torch says of each of these functions that it will not stay."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit")
        yield


if __name__ == "__main__":
    with torch.no_grad():
        scores = load(Path(sys.argv[1]))(torch.load(sys.argv[2], weights_only=True))
    torch.save(scores, f"{sys.argv[1]}.scores")
