"""Way 2: an entire model in one file: the fp32 model as an object, and what makes it int8.

Loading it runs what is in the file: that is what a pickle is, and what ``weights_only=False``
allows. Do it with files that you wrote yourself, and with no others.
"""

from __future__ import annotations

from pathlib import Path

import torch
from files import files_of, model_from
from torch import nn


def save(fp32: nn.Module, workspace: Path, file: Path) -> None:
    """Save the fp32 model, not its class, with the int8 files of ``workspace``."""
    torch.save({"model": fp32, **files_of(workspace)}, file)


def load(file: Path) -> nn.Module:
    """Return the int8 model; the class of the fp32 one has to be where it was."""
    saved = torch.load(file, weights_only=False)  # an object: for own files only
    return model_from(saved, saved["model"])
