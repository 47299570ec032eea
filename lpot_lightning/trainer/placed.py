"""Where a Trainer's run leaves its files."""

from __future__ import annotations

import os
from pathlib import Path

from lightning.fabric.utilities.cloud_io import _is_local_file_protocol
from lightning.pytorch import Trainer

from lpot_lightning.conf.schema import Conf
from lpot_lightning.runs.workspace import Workspace


def workspace_in(trainer: Trainer, conf: Conf) -> Workspace:
    """Return where files go: relative paths below ``default_root_dir``, none in a ``fast_dev_run``.

    A ``default_root_dir`` on another machine, ``s3://…`` for one, cannot hold a workspace: then,
    and without one, relative paths stay relative to the current folder.
    """
    quick: int = trainer.fast_dev_run  # type: ignore[attr-defined]
    return Workspace() if quick else Workspace.of(conf, _root(trainer))


def _root(trainer: Trainer) -> Path:
    root = trainer.default_root_dir
    if not _is_local_file_protocol(root) or root == os.getcwd():
        return Path()
    return Path(root)
