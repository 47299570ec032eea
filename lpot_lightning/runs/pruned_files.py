"""The files of a pruned model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lpot_lightning.artifacts.earlier import (
    EXPORT_RECORDS,
    PRUNED,
    REPORT,
    forget_besides,
    is_kept_earlier,
    keep_earlier,
)
from lpot_lightning.artifacts.probe import PREFIX
from lpot_lightning.artifacts.storage import memory, read_weights, save
from lpot_lightning.artifacts.traits import Traits
from lpot_lightning.artifacts.tune_config import PRUNING, heading, verdict
from lpot_lightning.conf.schema import Conf
from lpot_lightning.data.batches import Call
from lpot_lightning.errors import ArtifactError
from lpot_lightning.machine.files import open_folder, read_file, write_file
from lpot_lightning.module.copying import second_model
from lpot_lightning.module.fingerprint import fingerprint
from lpot_lightning.pruning.channels.plan import ChannelPlan
from lpot_lightning.runs.pruning_result import NAMES, PRUNING_RESULT, PruningResult
from lpot_lightning.runs.reporting.report_file import ReportWriter

UNJUDGED = "unjudged"
"""How files of weights are called that a signal kept from being judged."""


def save_pruned(
    folder: Path,
    result: PruningResult,
    conf: Conf,
    plan: ChannelPlan | None,
    calls: Mapping[str, Call],
    say: Callable[[str], object],
) -> None:
    """Write ``pruned_configure.yaml``, ``pruned_model_weights.pt`` and ``pruning_result.json``.

    Args:
        folder: the workspace.
        result: with its model.
        conf: for the names.
        plan: by which channels were cut out, where they were.
        calls: what modules were called with that are called from outside, by their paths.
        say: takes where the files of another run are kept.

    Raises:
        ArtifactError: if a file cannot be written; what was there before still loads.
    """
    open_folder(folder)
    state = nn.Module.state_dict(result.model)
    plain = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not _has(folder, plain) and (kept := keep_earlier(folder, PRUNED)):
        say(f"the pruned model of another run is kept as `{kept}`")
        forget_besides(folder, (EXPORT_RECORDS,))
    traits, probe = Traits.of_calls(result.model, calls).described(second_model(result.model))
    configure = _configure(result, conf) | traits
    if plan is not None:
        configure["channels"] = plan.to_dict()
    is_kept = partial(is_kept_earlier, folder, NAMES.weights)
    save(folder, configure, plain | probe, NAMES, is_kept)
    write_file(folder / PRUNING_RESULT, result.to_json())
    ReportWriter(folder / REPORT).write(lambda: result.facts(folder))


def _has(folder: Path, plain: Mapping[str, Tensor]) -> bool:
    """Whether the weights in a workspace are these: a fit that goes on ends with what it had."""
    try:
        before = read_weights(read_file(folder / NAMES.weights, memory()), folder / NAMES.weights)
    except ArtifactError:
        return False  # none, or not to be read: they are kept as they are
    before = {name: one for name, one in before.items() if not name.startswith(PREFIX)}
    return before.keys() == plain.keys() and all(
        torch.equal(before[name], value) for name, value in plain.items()
    )


def judged_left(result: PruningResult) -> str:
    """Return what is on disk when the model is judged, for people."""
    said = f"`{result.monitor}` {result.accuracy:.4f}, {result.status}"
    if result.workspace is None:
        return f"the pruned model is judged ({said}), and not on disk: this is a `fast_dev_run`"
    files = f"'{result.workspace / NAMES.configure}', '{result.workspace / NAMES.weights}'"
    return (
        f"the pruned model is judged ({said}) and in `{result.workspace}`; go on with"
        f" `lpot_lightning.load({files}, model)`"
    )


def unused(path: Path) -> Path:
    """Return ``path``, or one with a number where that is there: no training replaces another's."""
    others = (path.with_stem(f"{path.stem}-{number}") for number in count(1))
    return path if not path.exists() else next(one for one in others if not one.exists())


def _configure(result: PruningResult, conf: Conf) -> dict[str, Any]:
    return {
        **heading(conf, PRUNING),
        "accuracy": verdict(
            result.monitor,
            result.criterion,
            result.baseline,
            pruned=result.accuracy,
            met=result.status == "met",
        ),
        "sparsity": {
            "total": result.sparsity,
            "reached": result.reached,
            "parameters": {
                layer.name: {"sparsity": layer.sparsity, "pattern": layer.pattern}
                for layer in result.layers
            },
        },
        "fp32_model": fingerprint(result.model),
    }
