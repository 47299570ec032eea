"""Where the files of a run go, and what is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from lpot_lightning.artifacts.earlier import HISTORY
from lpot_lightning.artifacts.storage import CONFIGURE
from lpot_lightning.artifacts.tune_config import read_configure
from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import ArtifactError
from lpot_lightning.machine.checksums import marked
from lpot_lightning.machine.files import expanded, read_file
from lpot_lightning.tuning.journal import MAX_BYTES


@dataclass(frozen=True)
class Workspace:
    """Where the files of one run go.

    Args:
        folder: ``None`` writes none.
        resume: the history to go on with, where it is not that of the folder.
    """

    folder: Path | None = None
    resume: Path | None = None

    @classmethod
    def of(cls, conf: Conf, root: Path = Path()) -> Workspace:
        """Return what a conf asks for; LPOT's ``framework/name`` where it names no folder.

        Paths are absolute: a training may go to another folder.

        Args:
            conf: checked.
            root: that relative paths lie below.
        """
        asked, root = conf.tuning.workspace, root.absolute()
        resume = None if asked.resume is None else _history_in(root / expanded(asked.resume))
        if asked.path is not None:
            return cls(root / expanded(asked.path), resume)
        if resume is not None:
            return cls(resume.parent, resume)
        return cls(root / "lpot_workspace" / conf.model.framework / conf.model.name)

    @property
    def history(self) -> Path | None:
        """The history of the run: the one to resume, else that of its folder."""
        return None if self.folder is None else self.resume or self.folder / HISTORY

    def left(self) -> str:
        """Return what an interrupted run has left, for people."""
        if self.folder is None or self.history is None:
            return "nothing is on disk in a `fast_dev_run`"
        count = _finished(self.history)
        if not count:
            return "no trial was finished"
        trials = f"{count} finished trial{'' if count == 1 else 's'}"
        return f"{trials} and {_best(self.folder)} are in `{self.folder}`"


def _history_in(path: Path) -> Path:
    return path / HISTORY if path.is_dir() else path


def deploy_yaml(conf: Conf) -> bytes:
    """Return LPOT's ``deploy.yaml``: what a benchmark of the int8 model needs to know.

    Its first line has a hash over the rest, which ``read_conf`` holds it against.
    """
    asked = conf.to_dict()
    evaluation = asked.get("evaluation") or {}
    evaluation.setdefault("performance", {"warmup": 5, "iteration": -1})
    plain = {key: asked[key] for key in ("version", "model", "device")}
    return marked(yaml.safe_dump({**plain, "evaluation": evaluation}, sort_keys=False).encode())


def _finished(history: Path) -> int:
    try:
        return sum(
            b'"kind": "trial"' in line for line in read_file(history, MAX_BYTES).splitlines()
        )
    except ArtifactError:  # interrupted before it was begun
        return 0


def _best(workspace: Path) -> str:
    try:
        accuracy = read_configure(workspace / CONFIGURE)["accuracy"]
    except ArtifactError:
        return "no int8 model yet"
    met = "met" if accuracy["met"] else "not met"
    return f"the best model so far (`{accuracy['monitor']}` {accuracy['int8']:.4f}, {met})"
