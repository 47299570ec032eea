"""Where the files of a run go, and what its history depends on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from lpot_lightning.artifacts.storage import CONFIGURE
from lpot_lightning.artifacts.tune_config import read_configure
from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import ArtifactError
from lpot_lightning.machine.files import expanded, open_folder, read_file
from lpot_lightning.module.fingerprint import content_hash
from lpot_lightning.runs.job import Job
from lpot_lightning.tuning.history import History, Known
from lpot_lightning.tuning.journal import MAX_BYTES
from lpot_lightning.version import VERSION

HISTORY, DEPLOY, RESULT = "history.jsonl", "deploy.yaml", "result.json"


def workspace_of(conf: Conf) -> Path:
    """Return the folder that a conf asks for; LPOT's ``framework/name`` where it names none."""
    asked = conf.tuning.workspace
    if asked.path is not None:
        return expanded(asked.path)
    if asked.resume is not None:
        return _resumed(asked.resume).parent
    return Path("lpot_workspace") / conf.model.framework / conf.model.name


def history_of(conf: Conf, folder: Path | None) -> Path | None:
    """Return the history file of a run: the one to resume, else that of its folder."""
    if folder is None:
        return None
    resume = conf.tuning.workspace.resume
    return folder / HISTORY if resume is None else _resumed(resume)


def _resumed(resume: str) -> Path:
    path = expanded(resume)
    return path / HISTORY if path.is_dir() else path


def what_trials_depend_on(conf: Conf, **others: Any) -> dict[str, str]:
    """Return the fingerprints under which a score may be taken up again.

    Args:
        conf: without where files go and how long to search, which change no score.
        others: what else matters, by name: tensors, numbers, texts, at any depth.
    """
    asked = conf.to_dict()
    for key in ("workspace", "exit_policy"):
        asked["tuning"].pop(key, None)
    return {
        "config": content_hash(asked),
        **{name.replace("_", " "): content_hash(value) for name, value in others.items()},
        "versions": f"lpot_lightning {VERSION}, torch {torch.__version__}",
        "machine": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
    }


def deploy_yaml(conf: Conf) -> bytes:
    """Return LPOT's ``deploy.yaml``: what a benchmark of the int8 model needs to know."""
    asked = conf.to_dict()
    evaluation = asked.get("evaluation") or {}
    evaluation.setdefault("performance", {"warmup": 5, "iteration": -1})
    plain = {key: asked[key] for key in ("version", "model", "device")}
    return yaml.safe_dump({**plain, "evaluation": evaluation}, sort_keys=False).encode()


def on_disk(conf: Conf, workspace: Path | None) -> str:
    """Return what an interrupted run has left, for people."""
    history = history_of(conf, workspace)
    if workspace is None or history is None:
        return "nothing is on disk in a `fast_dev_run`"
    count = _finished(history)
    if not count:
        return "no trial was finished"
    trials = f"{count} finished trial{'' if count == 1 else 's'}"
    return f"{trials} and {_best(workspace)} are in `{workspace}`"


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


def open_history(job: Job) -> History:
    """Let rank 0 open the history of a job; the others know the same and write nothing.

    Raises:
        ArtifactError: if it is damaged, or cannot be resumed or written.
    """
    data = job.ranks.gather(content_hash(job.runner.calibration))
    opened: list[History] = []

    def open_and_tell() -> Known:
        opened.append(_history_on_disk(job, data))
        return opened[0].known

    known = job.ranks.on_zero(open_and_tell)
    return opened[0] if opened else History.copied(known)


def _history_on_disk(job: Job, calibration_data: list[str]) -> History:
    if job.folder is not None:
        open_folder(job.folder)
    path = history_of(job.conf, job.folder)
    fingerprints = what_trials_depend_on(
        job.conf,
        modules=job.options.modules,
        monitor=[job.runner.monitor, job.runner.higher_is_better],
        weights=content_hash(dict(nn.Module.state_dict(job.model))),
        calibration_data=calibration_data,
        **({"trained_ranges": job.trained.state} if job.trained else {}),
        **job.options.depends_on(),
    )
    resume = job.conf.tuning.workspace.resume
    history = History.open(path, fingerprints, must_match=resume is not None)
    history.check_baseline(job.baseline)
    for note in (history.repaired, history.archived):
        if note:
            job.listener.say(note)
    if tried := len({past.recipe.key for past in history.trials}):
        job.listener.say(f"going on after {tried} finished trials in `{path}`")
    return history
