"""``lpot-lightning report``: the page of a workspace, made of its files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lpot_lightning.artifacts.earlier import REPORT
from lpot_lightning.commands.answer import CommandAnswer
from lpot_lightning.commands.show import WorkspaceFiles, look
from lpot_lightning.deploy.export_records import read_exports
from lpot_lightning.errors import ArtifactError, in_short
from lpot_lightning.machine.files import expanded, shown, write_file
from lpot_lightning.report.facts import Facts, RunState, TuningFacts
from lpot_lightning.report.page import page
from lpot_lightning.runs.reporting.report_file import files_in, now, write_report
from lpot_lightning.runs.reporting.reporter import facts_so_far
from lpot_lightning.tuning.about import About
from lpot_lightning.tuning.history import Seen
from lpot_lightning.tuning.trial import Trial


def report_of(workspace: str, output: str | None = None) -> CommandAnswer:
    """Write the report of a workspace, and answer where it is.

    Args:
        workspace: its folder.
        output: the file; by default the one that runs write.

    Raises:
        ArtifactError: if it is no workspace, one of its files is damaged, or the report cannot be
            written, as where a file is that is no report.
    """
    folder = expanded(workspace)
    facts = facts_in(folder)
    if output is None:
        path = folder / REPORT
        write_file(path, page(facts))
    else:
        path = write_report(output, page(facts))
    written = path.absolute()
    return CommandAnswer(lambda: shown(written), lambda: {"path": str(written)})


def facts_in(folder: Path) -> Facts:
    """Return what the report of a workspace tells.

    Raises:
        ArtifactError: if it is no workspace, or one of its files is damaged.
    """
    found = look(os.fspath(folder))
    try:
        return _facts(found, folder)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ArtifactError(
            f"a file in `{folder}` holds what lpot_lightning does not write ({in_short(error)}): it"
            " is damaged, or was edited"
        ) from error


def _facts(found: WorkspaceFiles, folder: Path) -> Facts:
    ended = found.result if found.is_over else None
    tuning = None if ended is None else ended.facts(None).tuning
    if ended is None and (found.history is not None or found.configure is not None):
        tuning = _so_far(found.history or Seen(None, (), False), found.configure or {})
    pruning = None if found.pruned is None else found.pruned.pruning_facts()
    about = (tuning and tuning.about) or (pruning and pruning.about)
    is_over = ended is not None or tuning is None
    return Facts(
        title=about.model if about else str((found.configure or {}).get("model", folder.name)),
        state=RunState.ENDED if is_over else RunState.NOT_ENDED,
        now=now(),
        folder=shown(folder.absolute()),
        tuning=tuning,
        pruning=pruning,
        exports=read_exports(folder) if is_over else (),
        files=files_in(folder),
        notes=() if is_over else tuple(f"{one[0].upper()}{one[1:]}." for one in found.notes),
    )


def _so_far(history: Seen, configure: Mapping[str, Any]) -> TuningFacts:
    """Return what a run has left that has not ended, or of which only the model is there."""
    said, told = history.findings.get(("about", "")), configure.get("accuracy") or {}
    about = _guessed(configure, told) if said is None else About.from_dict(said["about"])
    trials = tuple(
        Trial(number, past.recipe, past.score, replayed=True)
        for number, past in enumerate(history.trials, start=1)
    )
    kept = told.get("int8")
    best = [one for one in trials if one.score.in_full and one.score.accuracy == kept]
    baseline = told.get("baseline") if history.baseline is None else history.baseline
    found = facts_so_far(about, baseline, trials, history.findings, best=best[-1] if best else None)
    if said is not None:
        return found
    known = found.criterion if told.get("criterion") else None
    return replace(found, about=None, criterion=known, accuracy=kept)


def _guessed(configure: Mapping[str, Any], told: Mapping[str, Any]) -> About:
    """Return what a tune config says of its run, where no history does, as of earlier versions."""
    goal: Mapping[str, Any] = told.get("criterion") or {"relative": 0.0}
    ((kind, value),) = goal.items()
    return About(
        model=str(configure.get("model", "model")),
        approach=str(configure.get("approach", "")),
        monitor=str(told.get("monitor", "accuracy")),
        goal=float(value),
        relative=kind == "relative",
        higher_is_better=bool(told.get("higher_is_better", True)),
        seed=0,
        versions={},
        machine={},
    )
