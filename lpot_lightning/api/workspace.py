"""Where the files of a run go, and what its history depends on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch
import yaml

from lpot_lightning.conf.schema import Conf
from lpot_lightning.quantization.fingerprint import content_hash
from lpot_lightning.version import VERSION

HISTORY, DEPLOY, RESULT = "history.jsonl", "deploy.yaml", "result.json"


def workspace_of(conf: Conf) -> Path:
    """Return the folder that a conf asks for; LPOT's ``framework/name`` where it names none."""
    asked = conf.tuning.workspace
    if asked.path is not None:
        return Path(asked.path).expanduser()
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
    path = Path(resume).expanduser()
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
