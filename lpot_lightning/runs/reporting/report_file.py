"""The report of a workspace: its file, and what lies beside it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from lpot_lightning.artifacts.earlier import (
    CHECKPOINT,
    DEPLOY,
    EXPORT_RECORDS,
    HISTORY,
    INT8,
    PRUNED,
    REPORT,
    RESULT,
)
from lpot_lightning.artifacts.storage import CONFIGURE, WEIGHTS
from lpot_lightning.deploy.export_records import keep_exports
from lpot_lightning.deploy.exported import Exported
from lpot_lightning.errors import ArtifactError, LpotError, in_short
from lpot_lightning.machine.files import write_file
from lpot_lightning.report.facts import Facts, FileFacts
from lpot_lightning.report.page import page

_KILLED = "the weights before the last ones; a run was stopped between its two files"
WHAT = {
    CONFIGURE: "the tune config: what each op became",
    WEIGHTS: "the tensors of the int8 model",
    "best_model_weights.previous.pt": _KILLED,
    CHECKPOINT: "a Lightning checkpoint with the fp32 and the int8 model",
    HISTORY: "all finished trials; a run that was stopped goes on from here",
    RESULT: "the result, for programs",
    DEPLOY: "what a benchmark needs to know",
    "pruned_configure.yaml": "the tune config of the pruned model",
    "pruned_model_weights.pt": "the tensors of the pruned model",
    "pruned_model_weights.previous.pt": _KILLED,
    "pruning_result.json": "the result of the pruning, for programs",
    EXPORT_RECORDS: "what exports came to",
}
"""What people are told of each file."""


def files_in(folder: Path) -> tuple[FileFacts, ...]:
    """Return what lies in a workspace and is ours, but for the report itself."""
    names = [one for one in dict.fromkeys((*INT8, *PRUNED)) if one != REPORT]
    there = ((name, folder / name) for name in names)
    return tuple(FileFacts(n, path.stat().st_size, WHAT[n]) for n, path in there if path.is_file())


def now() -> str:
    """Return the time, for people who read a report later."""
    return datetime.now().astimezone().strftime("on %Y-%m-%d at %H:%M:%S (UTC%z)")


class ReportWriter:
    """Writes a report again and again; where it cannot, it says so once, and raises nothing.

    Args:
        path: of the file; ``None`` writes nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._is_told = False

    def write(self, facts: Callable[[], Facts]) -> None:
        """Write what ``facts`` gives; a report is not worth a run."""
        if self._path is None:
            return
        try:
            write_file(self._path, page(facts()))
        except Exception as error:
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        if self._is_told:
            return
        self._is_told = True
        reason = str(error) if isinstance(error, LpotError) else in_short(error)
        warnings.warn(
            f"the report `{self._path}` is not up to date: {reason}; nothing else is lost by"
            " it, and `lpot-lightning report` makes it of the other files",
            UserWarning,
            stacklevel=4,
        )


def note_exports(
    folder: Path, exported: Iterable[Exported], facts: Callable[[], Facts] | None
) -> None:
    """Keep in a workspace what exports of its model came to, and let its report tell of them.

    They are written already: where this cannot be, a warning says so.

    Args:
        folder: the workspace.
        exported: the exports.
        facts: gives what the report tells then; ``None`` leaves it as it is.
    """
    try:
        keep_exports(folder, exported)
    except ArtifactError as error:
        warnings.warn(
            f"the report `{folder / REPORT}` does not tell of this export: {error}",
            UserWarning,
            stacklevel=4,
        )
        return
    if facts is not None:
        ReportWriter(folder / REPORT).write(facts)
