"""The history of a run, and what its scores depend on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lpot_lightning.artifacts.earlier import keep_earlier
from lpot_lightning.conf.schema import Conf
from lpot_lightning.machine.files import open_folder, remove_file
from lpot_lightning.module.fingerprint import content_hash
from lpot_lightning.runs.job import Job
from lpot_lightning.tuning.history import History, Known
from lpot_lightning.version import VERSION


def open_history(job: Job) -> History:
    """Let rank 0 open the history of a job; the others know the same and write nothing.

    Raises:
        ArtifactError: if it is damaged, or cannot be resumed or written.
    """
    data = job.ranks.gather(content_hash(job.feed.batches))
    opened: list[History] = []

    def open_and_tell() -> Known:
        opened.append(_history_on_disk(job, data))
        return opened[0].known

    known = job.ranks.on_zero(open_and_tell)
    return opened[0] if opened else History.copied(known)


def _history_on_disk(job: Job, calibration_data: list[str]) -> History:
    workspace = job.options.workspace
    if workspace.folder is not None:
        open_folder(workspace.folder)
    fingerprints = what_trials_depend_on(
        job.conf,
        modules=job.options.modules,
        monitor=[job.monitor.name, job.monitor.higher_is_better],
        weights=content_hash(dict(nn.Module.state_dict(job.model))),
        calibration_data=calibration_data,
        **({"trained_ranges": job.trained.state} if job.trained else {}),
        **job.options.depends_on(),
    )
    must_match = workspace.resume is not None
    if workspace.history is not None and not workspace.history.exists() and not must_match:
        _keep_without_history(job, workspace.history.parent)
    history = History.open(
        workspace.history,
        fingerprints,
        must_match=must_match,
        archive=_kept_whole,
        ops={*(op.name for op in job.prepared.ops), *job.prepared.excluded},
    )
    history.check_baseline(job.baseline)
    for note in (history.repaired, history.archived):
        if note:
            job.listener.say(note)
    if tried := len({past.recipe.key for past in history.trials}):
        job.listener.say(f"going on after {tried} finished trials in `{workspace.history}`")
    return history


def _keep_without_history(job: Job, folder: Path) -> None:
    if kept := keep_earlier(folder):
        job.listener.say(f"the model of another run is kept as `{kept}`: it has no history here")


def _kept_whole(history: Path) -> Path:
    """Keep all that another run has left, and let a new history begin."""
    kept = keep_earlier(history.parent)
    remove_file(history)
    assert kept is not None
    return kept


def what_trials_depend_on(conf: Conf, **others: Any) -> dict[str, str]:
    """Return the fingerprints under which a score may be taken up again.

    Args:
        conf: without where files go, what is exported and how long to search, which change no
            score.
        others: what else matters, by name: tensors, numbers, texts, at any depth.
    """
    asked = conf.to_dict()
    asked.pop("export", None)
    for key in ("workspace", "exit_policy"):
        asked["tuning"].pop(key, None)
    return {
        "config": content_hash(asked),
        **{name.replace("_", " "): content_hash(value) for name, value in others.items()},
        "versions": f"lpot_lightning {VERSION}, torch {torch.__version__}",
        "machine": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
    }
