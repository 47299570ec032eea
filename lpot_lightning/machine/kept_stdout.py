"""One text on stdout, and nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout


@contextmanager
def kept_stdout() -> Iterator[Callable[[str], object]]:
    """Give what writes to stdout; all that others write there goes to stderr meanwhile.

    That holds for code in C and for processes that are started meanwhile, too.

    Example::

        with kept_stdout() as write:
            print("for people")  # on stderr
            write('{"for": "programs"}\\n')
    """
    out = sys.stdout
    out.flush()
    kept = _taken(_number(out))
    try:
        with redirect_stdout(sys.stderr):
            yield out.write if kept is None else lambda text: _write(kept, text)
    finally:
        sys.stderr.flush()
        if kept is None:
            out.flush()
        else:
            os.dup2(kept, out.fileno())
            os.close(kept)


def _number(out: object) -> int | None:
    """Return the file descriptor of ``out``; ``None`` for one that is no file, as in notebooks."""
    try:
        number: int = out.fileno()  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return None
    return number


def _taken(number: int | None) -> int | None:
    """Let a descriptor lead to stderr, and return another one to where it led."""
    if number is None:
        return None
    kept = os.dup(number)
    os.dup2(2, number)
    return kept


def _write(number: int, text: str) -> None:
    left = text.encode()
    while left:
        left = left[os.write(number, left) :]
