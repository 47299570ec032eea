"""How an interrupted run ends, and what it says then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lpot_lightning.api.workspace import history_of
from lpot_lightning.conf.schema import Conf
from lpot_lightning.errors import ArtifactError
from lpot_lightning.files import read_file
from lpot_lightning.quantization.configure import read_configure
from lpot_lightning.quantization.storage import CONFIGURE
from lpot_lightning.signals import Stopped, exit_codes


@contextmanager
def ending_well(conf: Conf, workspace: Path | None, again: str) -> Iterator[None]:
    """End with exit code 130 on Ctrl-C and 143 on SIGTERM, and say what is on disk.

    Lightning 2.6 ends with 1 on Ctrl-C, and with 0 on SIGTERM in a ``validate``.

    Args:
        conf: names the history.
        workspace: what is on disk there is told.
        again: what goes on with it.
    """
    try:
        with exit_codes():
            yield
    except (KeyboardInterrupt, SystemExit) as error:
        code = _code(error)
        if code is None:
            raise
        rank_zero_info(f"\ninterrupted: {_on_disk(conf, workspace)}; go on with {again}")
        raise Stopped(code) from error


def _code(error: BaseException) -> int | None:
    if isinstance(error, Stopped):
        return int(str(error.code))
    if isinstance(error, SIGTERMException):
        return 143
    if isinstance(error.__context__, KeyboardInterrupt) or isinstance(error, KeyboardInterrupt):
        return 130
    return None


def _on_disk(conf: Conf, workspace: Path | None) -> str:
    history = history_of(conf, workspace)
    if workspace is None or history is None:
        return "nothing is on disk in a `fast_dev_run`"
    count = _finished(history)
    if not count:
        return "no trial was finished"
    trials = f"{count} finished trial{'' if count == 1 else 's'}"
    return f"{trials} and {_best(workspace)} are in `{workspace}`"


def _finished(history: Path) -> int:
    try:
        return sum(b'"kind": "trial"' in line for line in read_file(history).splitlines())
    except ArtifactError:  # interrupted before it was begun
        return 0


def _best(workspace: Path) -> str:
    try:
        accuracy = read_configure(workspace / CONFIGURE)["accuracy"]
    except ArtifactError:
        return "no int8 model yet"
    met = "met" if accuracy["met"] else "not met"
    return f"the best model so far (`{accuracy['monitor']}` {accuracy['int8']:.4f}, {met})"
