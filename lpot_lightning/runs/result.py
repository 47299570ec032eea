"""What runs of all kinds come to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from torch import nn

from lpot_lightning.artifacts.earlier import REPORT
from lpot_lightning.deploy.asking import export_as
from lpot_lightning.deploy.exported import Exported
from lpot_lightning.deploy.names import options_of
from lpot_lightning.deploy.origin import UNKNOWN, Origin
from lpot_lightning.errors import ArtifactError, ConfError, LpotError, in_short
from lpot_lightning.machine.checksums import ChecksumError, with_checksum, without_checksum
from lpot_lightning.machine.columns import on_one_line
from lpot_lightning.machine.files import read_file, shown, write_file
from lpot_lightning.machine.numbers import drop_and_allowed, told_apart
from lpot_lightning.machine.shown_in_short import Cells, ShownInShort
from lpot_lightning.machine.typed import check_typed
from lpot_lightning.recipe import Recipe
from lpot_lightning.report.facts import Facts
from lpot_lightning.report.page import page
from lpot_lightning.runs.reporting.report_file import note_exports, write_report
from lpot_lightning.tuning.score import Criterion

R = TypeVar("R", bound="Result")
_DAMAGE = (ValueError, TypeError, KeyError, AttributeError, RecursionError, LpotError)


@dataclass(frozen=True, kw_only=True, repr=False)
class Result(ShownInShort):
    """A model that was judged, and what it was compared with.

    ``print`` shows it in a few lines, a notebook as a small table.

    Args:
        monitor: name of the metric that judged.
        criterion: how much worse than the baseline was allowed.
        baseline: the accuracy that the model is compared with.
        accuracy: the model's.
        workspace: where the files are; ``None`` where none were asked for.
        held: the ``model``; ``None`` in a result that was read from its file.
        origin: what the model is called with, and who judges it; unknown in such a result.
    """

    _kind: ClassVar[str]
    _before: ClassVar[str]
    _files: ClassVar[tuple[str, str]]
    _gone: ClassVar[type[LpotError]]

    monitor: str
    criterion: Criterion
    baseline: float
    accuracy: float
    workspace: Path | None
    held: nn.Module | None = field(default=None, repr=False, compare=False)
    origin: Origin = field(default=UNKNOWN, repr=False, compare=False)

    @property
    def model(self) -> nn.Module:
        """The model, a second object, in eval mode, on the CPU.

        Raises:
            LpotError: in the main process of a fit that ran in processes of its own, as with
                ``ddp_spawn``; the error says how to restore the model.
        """
        if self.held is None:
            configure, weights = (f"'{self.workspace}/{name}'" for name in self._files)
            raise self._gone(
                f"the fit ran in processes of its own, which the {self._kind} model ended with;"
                f" restore it: `lpot_lightning.load({configure}, {weights}, model)`"
            )
        return self.held

    @property
    def kind(self) -> str:
        """What the model is, ``"int8"`` or ``"pruned"``."""
        return self._kind

    @property
    def drop(self) -> float:
        """How much worse the model is, in the unit of the criterion; negative is better."""
        return self.criterion.drop(self.accuracy, self.baseline)

    def export(self, path: str | os.PathLike[str], **options: Any) -> Exported:
        """Write the model to a file that other runtimes run, and check the file.

        Args:
            path: of the file. Its ending says the form: ``.onnx``, ``.xml`` (OpenVINO), ``.pt2``
                (``torch.export``), ``.aoti.pt2`` (AOTInductor), ``.ts`` (TorchScript).
            options: see ``ExportOptions``: ``method``, ``example``, ``dynamic``, ``input_names``,
                ``output_names``, ``opset``, ``target``, ``check``, ``judge``.

        Raises:
            ConfError: if there is no such form, or no such option or value of it.
            ExportError: if it cannot be written in this form, or the file computes something else;
                what was at ``path`` is there as before then.

        Example::

            exported = callback.result.export("model.onnx", target="openvino", judge=True)
            print(exported.table())
        """
        exported = export_as(self.model, path, options_of(options), self.origin)
        return self.note_exports([exported])[0]

    def report(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write a page about the run, to be opened in a browser, and return where it is.

        It needs nothing else, also no network. A run with a workspace keeps it up to date by
        itself, as ``report.html``.

        Args:
            path: of the file; by default that of the workspace.

        Raises:
            ConfError: if there is neither a path nor a workspace.
            ArtifactError: if it cannot be written, or ``path`` is that of a file which is no
                report.

        Example::

            print(callback.result.report())
        """
        if path is None and self.workspace is None:
            raise ConfError(
                "`path` is missing, and the run has no workspace: `result.report('report.html')`"
            )
        content = page(self.facts(self.workspace))
        if path is not None:
            return write_report(path, content)
        assert self.workspace is not None
        place = self.workspace / REPORT
        write_file(place, content)
        return place

    def facts(self, folder: Path | None) -> Facts:
        """Return what a report tells of the run.

        Args:
            folder: its workspace, as seen from here.
        """
        raise NotImplementedError

    def note_exports(self, exported: Sequence[Exported]) -> tuple[Exported, ...]:
        """Keep in the workspace what exports of the model came to, and return them.

        They are written already: where that cannot be kept, a warning says so.
        """
        if self.workspace is not None and self.workspace.is_dir():
            note_exports(self.workspace, exported, lambda: self.facts(self.workspace))
        return tuple(exported)

    def to_json(self) -> bytes:
        """Return everything but the model and its origin, to be read by ``read_as``."""
        names = (one.name for one in fields(self) if one.name not in ("held", "origin"))
        plain = {name: _plain(getattr(self, name)) for name in names}
        return json.dumps(with_checksum(plain), indent=1).encode()

    def _rows(self) -> list[tuple[str, str]]:
        """Return the rows of the table for people."""
        raise NotImplementedError

    def _grids(self) -> list[tuple[Cells, bool]]:
        return [(self._rows(), False)]

    def _what_came(self, verdict: str) -> str:
        """Return what the model is worth, in one line."""
        now, before = told_apart(self.accuracy, self.baseline)
        drop, allowed = self._drop_and_allowed()
        return (
            f"{self._kind} {on_one_line(self.monitor)} {now}, {self._before} {before}: {verdict}"
            f" (drop {drop}, allowed {allowed})"
        )

    def _where(self) -> list[str]:
        """Return one line that says where the files are, if there are any."""
        return [] if self.workspace is None else [f"files in {shown(self.workspace)}"]

    def _accuracy_rows(self) -> list[tuple[str, str]]:
        now, before = told_apart(self.accuracy, self.baseline)
        return [
            (f"{self._before} {self.monitor}", before),
            (f"{self._kind} {self.monitor}", now),
            ("drop / allowed", " / ".join(self._drop_and_allowed())),
        ]

    def _drop_and_allowed(self) -> tuple[str, str]:
        return drop_and_allowed(self.drop, self.criterion.goal, share=self.criterion.relative)


def _plain(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return str(value) if isinstance(value, Path) else value


def read_as(kind: type[R], path: Path, parts: Mapping[str, Callable[[Any], Any]]) -> R:
    """Return what ``to_json`` of a result wrote; its ``model`` is not there.

    Args:
        kind: of result.
        path: of the file.
        parts: what makes the values of some fields of plain ones, besides those of all results.

    Raises:
        ArtifactError: if the file cannot be read, or is not one of ours.
    """
    content = read_file(path)
    made: dict[str, Callable[[Any], Any]] = {
        "criterion": lambda plain: Criterion(**plain),
        "workspace": lambda plain: None if plain is None else Path(plain),
        **parts,
    }
    try:
        plain = without_checksum(json.loads(content))
        found = kind(**{name: made.get(name, _same)(value) for name, value in plain.items()})
        check_typed(found, kind, kind.__name__, (Recipe, Origin))
        return found
    except ChecksumError as error:
        raise ArtifactError(
            f"`{path}` is damaged, or was edited: {error}; restore it from a copy, or run again,"
            " which writes it anew"
        ) from error
    except _DAMAGE as error:  # whatever the values of others lead to
        reason = in_short(error)
        raise ArtifactError(f"`{path}` is not what lpot_lightning writes: {reason}") from error


def values(make: Callable[[Any], Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return what makes a mapping of plain values, each by ``make``."""
    return lambda plain: {name: make(one) for name, one in plain.items()}


def pair_or_none(plain: Sequence[Any] | None) -> tuple[Any, Any] | None:
    """Return two plain values as they were."""
    return None if plain is None else (plain[0], plain[1])


def or_none(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return what leaves ``None`` as it is, and gives all else to ``make``."""
    return lambda plain: None if plain is None else make(plain)


def _same(value: Any) -> Any:
    return value


def each(make: Callable[[Any], Any]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Return what makes a tuple of plain values, each by ``make``."""
    return lambda plain: tuple(map(make, as_tuple(plain)))


def as_tuple(plain: object) -> tuple[Any, ...]:
    """Return a list of plain values as a tuple; a text, which has as many, is none.

    Raises:
        TypeError: if it is no list.
    """
    check_typed(plain, list[Any], "a list")
    assert isinstance(plain, list)
    return tuple(plain)
