"""One way into the exports, from whichever front end: what is asked for is checked first."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn

from lpot_lightning.deploy.export import export_model
from lpot_lightning.deploy.exported import Exported
from lpot_lightning.deploy.options import FORMS, ExportOptions, form_of
from lpot_lightning.deploy.origin import UNKNOWN, Origin
from lpot_lightning.deploy.requirements import check_installed
from lpot_lightning.errors import ConfError, ExportError, LpotError, did_you_mean, in_short, quoted
from lpot_lightning.machine.files import expanded, open_folder

_LOG = logging.getLogger(__name__)
_NAMES = {form: ending for ending, form in FORMS.items()}


def options_of(given: Mapping[str, Any]) -> ExportOptions:
    """Return the options that are given by name.

    Raises:
        ConfError: if there is no such one, or no such value of it.

    Example::

        options_of({"target": "openvino"})
    """
    known = [one.name for one in fields(ExportOptions)]
    for name in given:
        if name not in known:
            near = did_you_mean(name, known)
            raise ConfError(f"`{name}` is no option of an export; allowed: {quoted(known)}.{near}")
    return ExportOptions(**given)


def file_names(formats: object) -> tuple[str, ...]:
    """Return the names of the files that ``formats`` mean: forms, endings, or names of files.

    Raises:
        ConfError: if there is none, one that is no form of a model, or one twice.

    Example::

        file_names(["onnx", ".pt2", "net.xml"])  # ("model.onnx", "model.pt2", "net.xml")
    """
    if not isinstance(formats, list | tuple) or not formats:
        raise ConfError(
            f"`formats` is `{formats}`; allowed: a list of {quoted(_NAMES)}, or of names of files"
            f" that end in {quoted(FORMS)}"
        )
    names = tuple(map(_file_name, formats))
    if twice := next((one for one in names if names.count(one) > 1), None):
        raise ConfError(f"`formats` asks for `{twice}` twice: give each file a name of its own")
    return names


def _file_name(asked: object) -> str:
    if not isinstance(asked, str):
        raise ConfError(f"`formats` has `{asked}`; allowed: texts, such as {quoted(_NAMES)}")
    if asked in _NAMES:
        return f"model{_NAMES[asked]}"
    ending = f".{asked.removeprefix('.')}"
    if ending in FORMS:
        return f"model{ending}"
    if not any(asked.endswith(one) for one in FORMS):
        near = did_you_mean(asked, (*_NAMES, *FORMS))
        raise ConfError(
            f"`formats` has `{asked}`; allowed: {quoted(_NAMES)}, or names of files that end in"
            f" {quoted(FORMS)}.{near}"
        )
    return asked


def export_as(
    model: nn.Module,
    path: str | os.PathLike[str],
    options: ExportOptions,
    origin: Origin = UNKNOWN,
    say: Callable[[str], None] = _LOG.info,
) -> Exported:
    """Export ``model`` after looking whether that can be done at all.

    Args:
        model: int8 or fp32, in eval mode, on the CPU; it is left as it is.
        path: of the file; ``~`` is expanded.
        options: see there.
        origin: of the model.
        say: takes what the user should know.

    Raises:
        ConfError: if the ending of ``path`` is none.
        ExportError: see ``export_model``; or if a package, a call or a judge is missing.
    """
    place = expanded(path)
    check_installed(form_of(Path(place)), options)
    check_origin(model, options, origin)
    try:
        return export_model(model, place, options, origin, say)
    except LpotError:
        raise
    except Exception as error:  # whatever an exporter says
        raise ExportError(f"`{place}` cannot be written ({in_short(error)})") from error


def check_files(names: Iterable[str], options: ExportOptions, folder: Path) -> None:
    """Raise an ``LpotError`` if files of these names cannot be written in ``folder``."""
    for name in names:
        check_installed(form_of(Path(name)), options)
    for place in {(folder / name).parent for name in names}:
        open_folder(place, sweep=False, kind="folder of an export", place="in `formats`")


def export_each(
    model: nn.Module,
    paths: Iterable[Path],
    options: ExportOptions,
    origin: Origin,
    say: Callable[[str], None],
) -> tuple[Exported, ...]:
    """Export ``model`` to several files; what each came to is said at once."""
    found = []
    for path in paths:
        found.append(export_as(model, path, options, origin, say))
        say(f"\n{found[-1].table()}")
    return tuple(found)


def check_origin(model: nn.Module, options: ExportOptions, origin: Origin) -> None:
    """Raise an ``ExportError`` if there is nothing to call ``model`` with, or nobody to ask."""
    if options.example is None and not origin.calls:
        raise ExportError(
            f"nobody knows what `{type(model).__name__}` is called with: give an `example`, a"
            " tensor, a tuple of arguments or a mapping of keyword arguments"
        )
    if options.judge and origin.judge is None:
        raise ExportError(
            "`judge` takes the metric of your own validation, and there is nobody to ask for it:"
            " use an `ExportCallback` in the fit, or `result.export(…, judge=True)` in the program"
            " that has quantized the model"
        )
