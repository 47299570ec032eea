"""One export: from a model to a file that was checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from lpot_lightning.deploy.exported import Exported
from lpot_lightning.deploy.options import ExportOptions
from lpot_lightning.deploy.origin import UNKNOWN, Origin


def export_model(
    model: nn.Module,
    path: str | Path,
    options: ExportOptions,
    origin: Origin = UNKNOWN,
    say: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Write ``model`` to ``path``, in the form that its ending says, and check the file.

    Args:
        model: int8 or fp32, in eval mode, on the CPU; it is left as it is.
        path: of the file; its folder is made.
        options: see there.
        origin: see there.
        say: told what takes long.

    Raises:
        ExportError: if the model cannot be written in this form, or the file computes something
            else. Nothing is left at ``path`` then that was not there before.
    """
    raise NotImplementedError
