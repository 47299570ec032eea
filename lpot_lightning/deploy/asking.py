"""One way into the exports, from whichever front end: what is asked for is checked first."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from torch import nn

from lpot_lightning.deploy.exported import Exported
from lpot_lightning.deploy.options import ExportOptions, form_of
from lpot_lightning.deploy.origin import UNKNOWN, Origin, check_origin
from lpot_lightning.deploy.requirements import check_installed
from lpot_lightning.errors import ExportError, LpotError, in_short
from lpot_lightning.machine.audible import audible
from lpot_lightning.machine.files import expanded, open_folder
from lpot_lightning.machine.signals import check, told_when_stopped

_LOG = logging.getLogger(__name__)


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
        SystemExit: with 130 for Ctrl-C, 143 for SIGTERM and 129 for SIGHUP.
    """
    place = expanded(path)
    check_installed(form_of(Path(place)), options)
    check_origin(model, options, origin)
    # torch's exporters take long to import, and who exports nothing is not to wait for them
    from lpot_lightning.deploy.export import export_model

    with told_when_stopped(lambda: _tell(place)):
        try:
            return export_model(model, place, options, origin, say)
        except LpotError:
            raise
        except Exception as error:  # whatever an exporter says
            check()
            raise ExportError(f"`{place}` cannot be written ({in_short(error)})") from error


def _tell(place: Path) -> None:
    with audible(_LOG):
        _LOG.info(
            "interrupted: `%s` is as it was, or written as a whole; go on with the same call", place
        )


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
    *,
    show: Callable[[str], None],
) -> tuple[Exported, ...]:
    """Export ``model`` to several files; the table of each is given to ``show`` at once."""
    found = []
    for path in paths:
        found.append(export_as(model, path, options, origin, say))
        show(found[-1].table())
    return tuple(found)
