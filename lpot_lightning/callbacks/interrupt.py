"""How an interrupted run ends, and what it says then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lpot_lightning.api.workspace import on_disk
from lpot_lightning.conf.schema import Conf
from lpot_lightning.signals import Stopped, exit_codes, uninterrupted


@contextmanager
def ending_well(conf: Conf, workspace: Path | None, again: str) -> Iterator[None]:
    """End with exit code 130 on Ctrl-C and 143 on SIGTERM, and say what is on disk.

    Lightning 2.6 ends with 1 on Ctrl-C, and with 0 on SIGTERM in a ``validate``.

    Args:
        conf: names the history.
        workspace: what is on disk there is told.
        again: what goes on with it.
    """
    with exit_codes():
        try:
            yield
        except (KeyboardInterrupt, SystemExit) as error:
            code = _code(error)
            if code is None:
                raise
            with uninterrupted():  # a second signal would end it before it has said a word
                rank_zero_info(f"\ninterrupted: {on_disk(conf, workspace)}; go on with {again}")
            raise Stopped(code) from error


def _code(error: BaseException) -> int | None:
    if isinstance(error, Stopped):
        return int(str(error.code))
    if isinstance(error, SIGTERMException):
        return 143
    if isinstance(error.__context__, KeyboardInterrupt) or isinstance(error, KeyboardInterrupt):
        return 130
    return None
