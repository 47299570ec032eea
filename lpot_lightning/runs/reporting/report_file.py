"""The report of a workspace: its file, and what lies beside it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
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
from lpot_lightning.machine.files import expanded, write_file
from lpot_lightning.machine.reading import open_regular
from lpot_lightning.machine.signals import received
from lpot_lightning.report.facts import Facts, FileFacts, PruningFacts, RunState
from lpot_lightning.report.page import BEGINNING, is_of_both, is_page, page

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
    found = []
    for name in names:
        with suppress(FileNotFoundError):  # asked once: a run that goes on replaces its files
            size = (folder / name).stat().st_size
            found.append(FileFacts(name, size, WHAT[name]))
    return tuple(found)


def now() -> str:
    """Return the time, for people who read a report later."""
    return datetime.now().astimezone().strftime("on %Y-%m-%d at %H:%M:%S (UTC%z)")


def state_after(error: BaseException) -> tuple[RunState, tuple[str, ...]]:
    """Return where a run stands that this has ended, and what else there is to know."""
    if not isinstance(error, Exception) or received() is not None:
        return RunState.STOPPED, ()  # also an error of a process that the signal ended
    reason = str(error) if isinstance(error, LpotError) else in_short(error)
    return RunState.FAILED, (f"The run ended in an error: {reason}",)


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


def write_report(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write a page where somebody wants it, and return where that is.

    Args:
        path: of the file; an earlier page there is replaced.
        content: the page.

    Raises:
        ArtifactError: if ``path`` is none of a file, has a name of what belongs to a workspace, is
            that of something else than a page of ours, or cannot be written.
    """
    place = expanded(path)
    if str(place) in ("-", ".", ""):
        raise ArtifactError(
            f"the report cannot be written to `{os.fspath(path)}`; allowed: the path of a file,"
            " such as `report.html`"
        )
    if place.name in WHAT:
        raise ArtifactError(
            f"the report cannot be written to `{place}`: a file of that name belongs to a"
            f" workspace ({WHAT[place.name]}); give it another name, such as `report.html`"
        )
    if place.exists() and not _may_be_replaced(place):
        raise ArtifactError(
            f"the report cannot be written to `{place}`: a file is there that is no report, and"
            " is left as it is; give another path, or remove it"
        )
    write_file(place, content)
    return place


def _may_be_replaced(place: Path) -> bool:
    """Whether a file is empty, or an earlier page of ours."""
    try:
        beginning = _beginning(place)
    except OSError as error:
        raise ArtifactError(f"cannot write `{place}`: {error.strerror or error}") from error
    return not beginning or is_page(beginning)


def is_page_of_both(place: Path, pruning: PruningFacts) -> bool:
    """Whether a file is a page of this pruning and of a quantization that followed it."""
    try:
        return is_of_both(_beginning(place), pruning)
    except OSError:  # none is there, or one that nobody can read: it is written anew
        return False


def _beginning(place: Path) -> bytes:
    with os.fdopen(open_regular(place), "rb") as file:
        return file.read(BEGINNING)


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
