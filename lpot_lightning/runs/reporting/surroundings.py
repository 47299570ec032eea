"""What a run is asked for, and the machine that it runs on."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from lpot_lightning.conf.schema import Conf
from lpot_lightning.tuning.about import About
from lpot_lightning.tuning.score import Criterion
from lpot_lightning.version import VERSION

_OTHERS = {"lightning": "lightning", "pytorch_lightning": "pytorch-lightning"}
"""What may train, by its module: whoever has not imported it does not use it."""
_CPUINFO = Path("/proc/cpuinfo")


def about_tuning(conf: Conf, monitor: str, criterion: Criterion) -> About:
    """Return what a search for a recipe is asked for, and where it runs."""
    asked = conf.tuning
    return About(
        model=conf.model.name,
        approach=conf.quantization.approach,
        monitor=monitor,
        **vars(criterion),
        strategy=asked.strategy.name,
        objective=asked.objective,
        most=asked.exit_policy.max_trials,
        timeout=float(asked.exit_policy.timeout),
        seed=asked.random_seed,
        versions=versions(),
        machine=machine(),
    )


def about_pruning(conf: Conf, monitor: str, criterion: Criterion) -> About:
    """Return what a pruning is asked for, and where it runs."""
    return About(
        model=conf.model.name,
        approach="pruning",
        monitor=monitor,
        **vars(criterion),
        seed=conf.tuning.random_seed,
        versions=versions(),
        machine=machine(),
    )


def versions() -> dict[str, str]:
    """Return the versions of what has a say in numbers."""
    found = {
        "lpot_lightning": VERSION,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }
    for module, package in _OTHERS.items():
        if module in sys.modules:
            try:
                found[package] = version(package)
            except PackageNotFoundError:  # it lies in the folder that is the current one
                found[package] = "of unknown version"
    return found


def machine() -> dict[str, str]:
    """Return what numbers of this machine depend on, for people."""
    return {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": str(os.cpu_count() or "unknown"),
        "threads of torch": str(torch.get_num_threads()),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    """Return the name of the processor; Python knows none of it on Linux."""
    try:
        lines = _CPUINFO.read_text(errors="replace").splitlines()
    except OSError:  # another system than Linux
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
