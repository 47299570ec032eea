"""What a quantization or a pruning has left in its workspace."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpot_lightning.artifacts.earlier import HISTORY, RESULT, is_newer
from lpot_lightning.artifacts.storage import CONFIGURE
from lpot_lightning.artifacts.tune_config import read_configure
from lpot_lightning.commands.answer import CommandAnswer
from lpot_lightning.commands.ops_table import ops_table
from lpot_lightning.errors import ArtifactError, in_short
from lpot_lightning.machine.columns import aligned, hanging, on_one_line
from lpot_lightning.machine.files import expanded
from lpot_lightning.machine.numbers import shown_number
from lpot_lightning.machine.reading import looking_at
from lpot_lightning.runs.pruning_result import (
    PRUNING_RESULT,
    PruningResult,
    read_pruning_result,
)
from lpot_lightning.runs.tuning_result import TuningResult, read_result
from lpot_lightning.tuning.history import PastTrial, Seen, look_at
from lpot_lightning.tuning.in_words import by_reason
from lpot_lightning.tuning.trial import Trial

_INT8 = (RESULT, HISTORY, CONFIGURE)
_FILES = (*_INT8, PRUNING_RESULT)


@dataclass(frozen=True, kw_only=True)
class WorkspaceFiles:
    """What is in a workspace; each part is ``None`` where its file is not there.

    Args:
        folder: the workspace.
        result: of the run that has ended last.
        history: of the run that was begun last.
        configure: the tune config of the best model.
        pruned: the result of the pruning that has ended last.
    """

    folder: Path
    result: TuningResult | None
    history: Seen | None
    configure: Mapping[str, Any] | None
    pruned: PruningResult | None = None

    @property
    def is_over(self) -> bool:
        """Whether the result is that of the run that was begun last.

        The trials of both files tell, as copies of files have other times. Where a run took up
        fewer trials than there are, they alone do not, and the times do.
        """
        if self.result is None or self.history is None:
            return self.result is not None
        kept = {_mark(one) for one in self.history.trials}
        mine = {_mark(one) for one in self.result.trials}
        if mine == kept or not mine <= kept:
            return mine == kept
        taken_up = all(one.replayed for one in self.result.trials)
        return taken_up and not is_newer(self.folder / HISTORY, self.folder / RESULT)

    @property
    def _failures(self) -> tuple[str, ...]:
        """Why all trials failed; empty where there is none, or one that did not."""
        trials = () if self.history is None else self.history.trials
        reasons = dict.fromkeys(one.score.failure for one in trials)
        return () if None in reasons else tuple(map(str, reasons))

    @property
    def notes(self) -> list[str]:
        """What is not as after a run that has ended."""
        found: list[str] = []
        if self.result is None and self.history is None and self.configure is None:
            return found  # it was only pruned
        if self.history is not None and self.history.torn:
            found.append("the last line of the history is not written to its end, and left out")
        if self.result is None and self._failures:
            found.append(
                "the run has not ended, or ended in an error: every trial so far failed"
                f" ({'; '.join(self._failures)})"
            )
        elif self.result is None:
            found.append("the run has not ended: it is going on, or was stopped")
        elif not self.is_over:
            found.append("a later run has not ended: the result is that of the one before")
        if self.configure is None:
            found.append("there is no int8 model yet")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        history = self.history
        return {
            "workspace": str(self.folder),
            "notes": self.notes,
            "result": None if self.result is None else json.loads(self.result.to_json()),
            "baseline": None if history is None else history.baseline,
            "trials": [] if history is None else [one.to_dict() for one in history.trials],
            "ops": {} if self.configure is None else self.configure["op"],
            "accuracy": None if self.configure is None else self.configure.get("accuracy"),
            "pruned": None if self.pruned is None else json.loads(self.pruned.to_json()),
        }


def _mark(trial: PastTrial | Trial) -> tuple[str, float]:
    """Return what two trials of one recipe, of different runs, do not share: the seconds."""
    return trial.recipe.key, trial.score.seconds


def show(path: str) -> CommandAnswer:
    """Return what is in the workspace at ``path``.

    Raises:
        ArtifactError: as ``look`` does.
    """
    found = look(path)
    return CommandAnswer(lambda: as_text(found), found.to_dict)


def look(path: str) -> WorkspaceFiles:
    """Read what is in the workspace at ``path``; nothing is changed.

    Raises:
        ArtifactError: if there is none, or one of its files is damaged.
    """
    folder = workspace_at(path)
    with looking_at(folder):
        there = [name for name in _FILES if (folder / name).is_file()]
    if not there:
        raise ArtifactError(
            f"`{path}` is no workspace: it holds none of {', '.join(f'`{one}`' for one in _FILES)}"
        )
    return WorkspaceFiles(
        folder=folder,
        result=read_result(folder / RESULT) if RESULT in there else None,
        history=look_at(folder / HISTORY) if HISTORY in there else None,
        configure=read_configure(folder / CONFIGURE) if CONFIGURE in there else None,
        pruned=read_pruning_result(folder / PRUNING_RESULT) if PRUNING_RESULT in there else None,
    )


def workspace_at(path: str) -> Path:
    """Return the folder at ``path``.

    Raises:
        ArtifactError: if there is none.
    """
    folder = expanded(path)
    with looking_at(path):
        if not folder.is_dir():
            what = "a file" if folder.exists() else "not there"
            raise ArtifactError(f"`{path}` is {what}; allowed: the folder of a workspace")
    return folder


def as_text(found: WorkspaceFiles) -> str:
    """Return it for people, part by part.

    Raises:
        ArtifactError: if a file can be read, and holds what nobody of us has written.
    """
    try:
        return "\n\n".join(_parts(found))
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ArtifactError(
            f"a file in `{found.folder}` holds what lpot_lightning does not write"
            f" ({in_short(error)}): it is damaged, or was edited"
        ) from error


def _parts(found: WorkspaceFiles) -> Iterator[str]:
    if found.notes:
        yield "\n".join(hanging(f"note: {one}") for one in found.notes)
    if found.pruned is not None:
        yield found.pruned.table()
    if found.result is not None:
        yield found.result.table()
    elif found.configure is not None:
        yield _so_far(found.configure)
    if found.history is not None:
        yield _trials(found.history)
    if found.configure is not None:
        yield ops_table(found.configure["op"])
    if found.result is not None and (found.result.op_times or found.result.causes):
        yield found.result.ops_table()
    if found.result is not None and (lines := list(_causes(found.result))):
        yield "\n".join(["what stands in the way of int8, and what can be done", *lines])
    if found.result is not None and found.result.not_quantizable:
        lines = by_reason(found.result.not_quantizable)
        yield "\n".join(["not quantizable", *map(hanging, lines)])


def _causes(result: TuningResult) -> Iterator[str]:
    """Yield the causes but for those of what is no op, whose reasons have a part of their own."""
    for name, one in result.causes.items():
        if name not in result.not_quantizable:
            yield hanging(f"{on_one_line(name)}: {one.told}")
            yield from (hanging(each, "  ", "  ") for each in (one.remedy, one.repaired) if each)


def _so_far(configure: Mapping[str, Any]) -> str:
    """Return what is known of the best model of a run that has not ended."""
    told = configure.get("accuracy")
    if not isinstance(told, dict):
        return "best so far  of unknown accuracy"
    rows = [
        [f"fp32 {told.get('monitor')}", _number(told.get("baseline"))],
        [f"int8 {told.get('monitor')}, best so far", _number(told.get("int8"))],
        ["criterion", "met" if told.get("met") else "not met"],
    ]
    return aligned(rows)


def _trials(history: Seen) -> str:
    if not history.trials:
        return "no trial was finished"
    rows = [["trial", "int8 ops", "fp32 ops", "accuracy", "seconds", "status"]]
    rows += [_trial(number, one) for number, one in enumerate(history.trials, start=1)]
    return aligned(rows)


def _trial(number: int, past: PastTrial) -> list[str]:
    score, recipe = past.score, past.recipe
    status = "met" if past.accepted else "not met"
    if score.failed:
        status = f"failed: {score.failure}"
    elif score.screened:
        status = f"given up after {score.evaluations:.0%} of a pass"
    counts = [str(len(recipe.int8_ops)), str(len(recipe.fp32_ops))]
    return [str(number), *counts, _number(score.accuracy), f"{score.seconds:.1f}", status]


def _number(value: Any) -> str:
    return shown_number(value) if isinstance(value, int | float) else "-"
