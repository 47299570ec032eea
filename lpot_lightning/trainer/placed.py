"""Where a Trainer's run leaves its files."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from lightning.fabric.utilities.cloud_io import _is_local_file_protocol
from lightning.pytorch import Trainer

from lpot_lightning.conf.schema import Conf, WorkspaceConf
from lpot_lightning.machine.files import expanded
from lpot_lightning.runs.workspace import workspace_of


def placed(trainer: Trainer, conf: Conf) -> Conf:
    """Return ``conf`` with its workspace named, relative paths below ``default_root_dir``.

    A ``default_root_dir`` on another machine, ``s3://…`` for one, cannot hold a workspace: then,
    and without one, relative paths stay relative to the current folder.
    """
    root, asked = _root(trainer), conf.tuning.workspace
    if asked.resume is not None:
        asked = dataclasses.replace(asked, resume=str(root / expanded(asked.resume)))
        conf = _with(conf, asked)
    return _with(conf, dataclasses.replace(asked, path=str(root / workspace_of(conf))))


def _root(trainer: Trainer) -> Path:
    root = trainer.default_root_dir
    if not _is_local_file_protocol(root) or root == os.getcwd():
        return Path()
    return Path(root)


def _with(conf: Conf, workspace: WorkspaceConf) -> Conf:
    return dataclasses.replace(conf, tuning=dataclasses.replace(conf.tuning, workspace=workspace))
