"""Way 2: the entire int8 model as an object, in one file.

Loading it runs what is in the file: that is what a pickle is, and what ``weights_only=False``
allows. Do it with files that you wrote yourself, and with no others.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn


def save(int8: nn.Module, file: Path) -> None:
    """Save the int8 model, not its class."""
    torch.save(int8, file)


def load(file: Path) -> nn.Module:
    """Return it; its class and lpot_lightning have to be where they were."""
    return torch.load(file, weights_only=False)  # an object: for own files only
