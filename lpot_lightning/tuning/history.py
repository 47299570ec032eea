"""What was tried and how it scored; survives a kill."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lpot_lightning.errors import ArtifactError, ConfError, in_short, quoted
from lpot_lightning.machine.typed import check_typed
from lpot_lightning.recipe import Recipe
from lpot_lightning.tuning import journal
from lpot_lightning.tuning.findings import FINDINGS, check_finding, ops_in
from lpot_lightning.tuning.score import Score

FORMAT = 1


@dataclass(frozen=True)
class Header:
    """What a history belongs to: it counts for nothing else.

    Args:
        fingerprints: a name, such as ``"config"`` or ``"weights"``, and its fingerprint each.
        format: the version of the file format.
    """

    fingerprints: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the first line."""
        return {"kind": "header", "format": self.format, "fingerprints": dict(self.fingerprints)}

    def differences(self, other: Header) -> tuple[str, ...]:
        """Return the names of what is not the same in both."""
        if self.format != other.format:
            return ("format",)
        mine, theirs = self.fingerprints, other.fingerprints
        names = dict.fromkeys([*mine, *theirs])
        return tuple(name for name in names if mine.get(name) != theirs.get(name))


@dataclass(frozen=True)
class PastTrial:
    """A finished trial, as the history keeps it."""

    recipe: Recipe
    score: Score

    @property
    def accepted(self) -> bool:
        """Whether the criterion is met."""
        return self.score.accepted

    def to_dict(self) -> dict[str, Any]:
        """Return the content of a line."""
        return {
            "kind": "trial",
            "accepted": self.accepted,
            "score": self.score.to_dict(),
            "recipe": self.recipe.to_dict(),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> PastTrial:
        """Build from what ``to_dict`` gave."""
        recipe = Recipe.from_dict(plain["recipe"])
        return cls(recipe, Score.from_dict(plain["score"], accepted=plain["accepted"]))


Archive = Callable[[Path], Path]
Known = tuple[tuple[PastTrial, ...], tuple[Mapping[str, Any], ...]]
"""The trials and the findings of a history."""
Findings = Mapping[tuple[str, str], Mapping[str, Any]]
"""By their kind and their key, in the order in which they were found."""


class History:
    """The finished trials of one model under one configuration; ``History()`` is kept in memory.

    On disk it is a file of JSON lines: the header, the baseline, then one line a finished trial or
    a finding, each with its number and a CRC-32. A line is appended with one write and is on disk
    before ``append`` returns, so that a killed run loses nothing that was finished.

    Attributes:
        repaired: one sentence if a torn last line had to be cut off, else ``None``.
        archived: one sentence if an older history did not match and was taken away, else ``None``.
        anew: whether it was begun, and not gone on with.

    Example::

        history = History.open(workspace / "history.jsonl", {"config": "5f1c…", "weights": "09ab…"})
        history.check_baseline(0.93)
        history.append(recipe, Score.of(0.92, seconds=1.2))
        history.find(recipe.key).accuracy  # 0.92
    """

    def __init__(self, path: Path | None = None, header: Header | None = None) -> None:
        self.path = path
        self.header = header or Header()
        self.must_match = False
        self.baseline: float | None = None
        self.repaired: str | None = None
        self.archived: str | None = None
        self.anew = False
        self._archive: Archive = journal.archive
        self._ops: frozenset[str] | None = None
        self._lines = 0
        self._trials: dict[str, PastTrial] = {}
        self._in_full: dict[str, PastTrial] = {}
        self._findings: dict[tuple[str, str], Mapping[str, Any]] = {}

    @classmethod
    def open(
        cls,
        path: Path | None,
        fingerprints: Mapping[str, str],
        *,
        must_match: bool = False,
        archive: Archive = journal.archive,
        ops: Collection[str] | None = None,
    ) -> History:
        """Go on with the history at ``path`` if it has the same fingerprints, else begin one.

        Args:
            path: the file; ``None`` keeps the history in memory.
            fingerprints: what the trials depend on.
            must_match: whether a history that is missing or belongs to something else is an error.
                Otherwise ``archive`` takes it away.
            archive: takes a history away that is not to be gone on with, and returns where it is
                kept; it is renamed to ``history.1.jsonl``, or the next free number, if left out.
            ops: all that the model has; a line that names another one is none of this model.

        Raises:
            ArtifactError: if a line that is not the last is damaged, any holds what no run writes,
                the folder cannot be written, or ``must_match`` is not met.
        """
        history = cls(path, Header(fingerprints))
        history.must_match, history._archive = must_match, archive
        history._ops = None if ops is None else frozenset(ops)
        if path is None:
            return history
        if path.exists():
            history._resume(path)
        elif must_match:
            raise ArtifactError(f"`{path}` is not there, and so there is nothing to resume")
        else:
            history._begin()
        return history

    @classmethod
    def copied(cls, known: Known) -> History:
        """Return a history in memory with what another one, in another process, knows."""
        history = cls()
        trials, findings = known
        for past in trials:
            history._know(past)
        history._findings = {(one["kind"], one["recipe"]): one for one in findings}
        return history

    @property
    def known(self) -> Known:
        """All that is known, as values that another process can be told."""
        return self.trials, tuple(self._findings.values())

    @property
    def trials(self) -> tuple[PastTrial, ...]:
        """The finished trials, in the order in which they were tried.

        Those that were ended early and later judged in full come once more, at the end.
        """
        return *self._trials.values(), *self._in_full.values()

    @property
    def findings(self) -> Findings:
        """What was found out without a trial."""
        return self._findings

    def find(self, key: str) -> Score | None:
        """Return the score of the recipe with this ``key``, or ``None`` if it was not tried."""
        past = self._trials.get(key)
        return None if past is None else past.score

    def find_in_full(self, key: str) -> Score | None:
        """Return the score of a recipe whose trial was first ended early, then judged in full."""
        past = self._in_full.get(key)
        return None if past is None else past.score

    def append(self, recipe: Recipe, score: Score) -> None:
        """Keep a finished trial, a failed one too.

        Raises:
            ArtifactError: if it cannot be written.
        """
        past = PastTrial(recipe, score)
        self._write(past.to_dict())
        self._know(past)

    def finding(self, kind: str, key: str) -> Mapping[str, Any] | None:
        """Return what ``keep`` was given, or ``None`` if nothing was found out yet.

        Args:
            kind: one of ``findings.FINDINGS``.
            key: of the recipe, or the op, that it is about.
        """
        return self._findings.get((kind, key))

    def keep(self, kind: str, key: str, content: Mapping[str, Any]) -> None:
        """Keep what was found out about a recipe without a trial.

        What was measured by the clock comes out otherwise the next time: a run that goes on takes
        it from here, and so takes the same way.

        Args:
            kind: one of ``findings.FINDINGS``.
            key: of the recipe that it is about.
            content: plain values.

        Raises:
            ArtifactError: if it cannot be written.
            TypeError: if it is not of the form that this kind has.
        """
        check_finding(kind, content)
        line = {"kind": kind, "recipe": key, **content}
        self._write(line)
        self._findings[kind, key] = line

    def check_baseline(self, accuracy: float) -> None:
        """Keep the accuracy of the fp32 model, or compare it with the one that was kept.

        Equal means equal to the last bit: it is what shows that the data and the evaluation are
        still the same. Otherwise the trials are archived and a new history begins.

        Raises:
            ArtifactError: if it differs and the history must match, or it cannot be written.
        """
        if self.baseline is not None and self.baseline != accuracy:
            self._set_aside(f"baseline ({self.baseline} then, {accuracy} now)")
        if self.baseline is None:
            self._write({"kind": "baseline", "accuracy": float(accuracy)})
            self.baseline = float(accuracy)

    def _resume(self, path: Path) -> None:
        records, self.repaired = journal.read(path)
        if names := _header(path, records[0]).differences(self.header):
            self._set_aside(", ".join(names))
            return
        for number, record in enumerate(records[1:], start=1):
            self._take(path, number, record)
        self._lines = len(records)

    def _take(self, path: Path, number: int, record: Mapping[str, Any]) -> None:
        try:
            self._take_up(record)
        except (KeyError, TypeError, ValueError, AttributeError, ConfError) as error:
            raise _not_ours(path, number, in_short(error)) from error

    def _take_up(self, record: Mapping[str, Any]) -> None:
        kind = record["kind"]
        if kind == "baseline":
            check_typed(record["accuracy"], float, "accuracy")
            self.baseline = float(record["accuracy"])
        elif kind in FINDINGS:
            self._take_up_finding(kind, record)
        elif kind == "trial":
            past = PastTrial.from_dict(record)
            self._check_ops(name for name, _ in past.recipe.ops)
            self._know(past)
        else:
            raise ValueError(f"`kind` is `{kind}`")

    def _take_up_finding(self, kind: str, record: Mapping[str, Any]) -> None:
        check_typed(record["recipe"], str, "recipe")
        content = {name: one for name, one in record.items() if name not in ("kind", "recipe")}
        check_finding(kind, content)
        self._check_ops(ops_in(kind, content))
        self._findings[kind, record["recipe"]] = record

    def _check_ops(self, names: Iterable[str]) -> None:
        if self._ops is not None and (others := sorted({*names} - self._ops)):
            raise ValueError(f"the model has no op {quoted(others, 3)}")

    def _know(self, past: PastTrial) -> None:
        first = self._trials.setdefault(past.recipe.key, past)
        if first is not past:
            self._in_full[past.recipe.key] = past

    def _set_aside(self, names: str) -> None:
        if self.must_match:
            raise ArtifactError(
                f"`{self.path}` belongs to another run: different are {names}; restore what it was "
                "made with, or leave `tuning.workspace.resume` out to start anew"
            )
        if self.path is not None:
            kept = self._archive(self.path)
            self.archived = f"what another run has left is kept as `{kept}`: different are {names}"
        self.baseline = None
        self._trials, self._in_full, self._findings = {}, {}, {}
        self._begin()

    def _begin(self) -> None:
        self.anew = True
        if self.path is not None:
            journal.create(self.path, self.header.to_dict())
        self._lines = 1

    def _write(self, content: Mapping[str, Any]) -> None:
        if self.path is not None:
            journal.append(self.path, self._lines, content)
        self._lines += 1


@dataclass(frozen=True)
class Seen:
    """What a history holds, for somebody who only looks.

    Args:
        baseline: the accuracy of the fp32 model, where it is known already.
        trials: the finished trials, in the order of trying.
        torn: whether a last line is not written to its end, or not yet.
        findings: what was found out without a trial.
    """

    baseline: float | None
    trials: tuple[PastTrial, ...]
    torn: bool
    findings: Findings = field(default_factory=dict)


def look_at(path: Path) -> Seen:
    """Return what the history at ``path`` holds, whatever it belongs to; nothing is written.

    Raises:
        ArtifactError: if it cannot be read, or a line that is not the last is damaged.
    """
    records, whole = journal.peek(path)
    history = History(header=_header(path, records[0]))
    for number, record in enumerate(records[1:], start=1):
        history._take(path, number, record)
    return Seen(history.baseline, history.trials, whole is not None, history.findings)


def _header(path: Path, record: Mapping[str, Any]) -> Header:
    found, version = record.get("fingerprints"), record.get("format")
    if record.get("kind") != "header" or not isinstance(found, dict) or type(version) is not int:
        raise _not_ours(path, 0)
    return Header(found, version)


def _not_ours(path: Path, number: int, why: str = "") -> ArtifactError:
    reason = f" ({why})" if why else ""
    return ArtifactError(
        f"`{path}`, line {number + 1}: not a line that lpot_lightning writes{reason}; "
        "restore the file from a copy, or move it away to start anew"
    )
