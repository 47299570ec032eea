"""How an interrupted run ends, and what it says then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lpot_lightning.machine.signals import Stopped, check, exit_codes, uninterrupted

NOT_BEGUN = "the training has not begun, and nothing was written; go on with the same call of `fit`"


@contextmanager
def ending_well(left: Callable[[], str]) -> Iterator[None]:
    """End with exit code 130 on Ctrl-C and 143 on SIGTERM, and say what is on disk.

    Lightning 2.6 ends with 1 on Ctrl-C, and with 0 on SIGTERM in a ``validate``. Inside another
    ``with`` of this kind nothing is said.

    Args:
        left: says what is on disk, and what goes on with it.
    """
    with exit_codes() as outermost:
        try:
            yield
            check()
        except (KeyboardInterrupt, SystemExit) as error:
            code = _code(error)
            if code is None:
                raise
            if outermost:
                with uninterrupted():  # a second signal would end it before it has said a word
                    rank_zero_info(f"\ninterrupted: {left()}")
            raise Stopped(code) from error


def _code(error: BaseException) -> int | None:
    if isinstance(error, Stopped):
        return int(str(error.code))
    if isinstance(error, SIGTERMException):
        return 143
    if isinstance(error.__context__, KeyboardInterrupt) or isinstance(error, KeyboardInterrupt):
        return 130
    return None
