"""LPOT's `q_model.save(folder)`: the files of a tuned model, in one more folder."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from torch import nn

from lpot_lightning.artifacts.storage import Names, read_checked
from lpot_lightning.artifacts.tune_config import hash_in
from lpot_lightning.errors import ArtifactError
from lpot_lightning.machine.files import expanded, open_folder, read_file, sha256, write_file
from lpot_lightning.runs.pruning_result import PruningResult
from lpot_lightning.runs.tuning_result import TuningResult


def saving(result: TuningResult | PruningResult, names: Names) -> nn.Module:
    """Return the model of a run with a ``save``, as LPOT 1.5 and 1.6 gave it.

    A model that has a ``save`` of the user's keeps that. The one of an earlier run, which copies
    have taken along, would save the files of that run: it is exchanged.

    Args:
        result: of the run.
        names: what the two files of the model are called.

    Example::

        saving(result, Names()).save("saved")
    """
    model, workspace = result.model, result.workspace
    assert workspace is not None  # it is LPOT's classes that save
    if _is_ours(getattr(model, "save", None)):
        content = read_file(workspace / names.configure)
        # no closure, and no attribute that torch would take for a part: it is copied and pickled
        vars(model)["save"] = partial(save_files, workspace.absolute(), names, sha256(content))
    return model


def _is_ours(found: object) -> bool:
    """Return whether a ``save`` is none, or one that ``saving`` gave."""
    return found is None or (isinstance(found, partial) and found.func is save_files)


def save_files(
    workspace: Path, names: Names, expected: str, folder: str | os.PathLike[str] | None = None
) -> None:
    """Copy the two files that ``load`` restores a model from.

    Args:
        workspace: where they are.
        names: what they are called.
        expected: the hash of the configuration, by which the model is known.
        folder: where they go; made if it is not there. ``None`` leaves them where they are.

    Raises:
        ArtifactError: if the workspace has another model by now, or a file cannot be written.
    """
    content = read_file(workspace / names.configure)
    if sha256(content) != expected:
        raise ArtifactError(
            f"`{workspace}` has the files of another model by now, and this one cannot be saved any"
            " more: give each run a `tuning.workspace.path` of its own, or save before the next one"
        )
    weights = read_checked(workspace / names.weights, hash_in(content) or "")
    if folder is None or expanded(folder).absolute() == workspace:
        return
    target = expanded(folder)
    open_folder(target, sweep=False, kind="folder", place="to `save`")
    write_file(target / names.weights, weights)
    write_file(target / names.configure, content)
