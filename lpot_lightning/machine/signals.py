"""Signals that end a run: with an exit code, not in a write."""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType
from typing import Any

HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)
"""What a terminal or a connection sends when it is closed; Windows has none."""
PATIENCE = 5.0
"""Seconds in which a run may end before another signal ends it harder."""


class Stopped(SystemExit):
    """Somebody asked the run to end: the exit code is 128 and the number of the signal."""


class _Handlers:
    """The handlers of one run."""

    def __init__(self, others: Iterable[signal.Signals]) -> None:
        self._ends = signal.SIGTERM, *filter(None, [HANGUP]), *others
        self.thread = threading.get_ident()
        self.received: int | None = None
        self.writing = 0
        self._since = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def begin(self) -> None:
        defaults: dict[signal.Signals, Any] = {
            signal.SIGINT: signal.default_int_handler,
            **dict.fromkeys(self._ends, signal.SIG_DFL),
        }
        for number, default in defaults.items():
            self._before[number] = signal.getsignal(number)
            if self._before[number] == default:
                signal.signal(number, self._handle)

    def end(self) -> None:
        self.writing += 1  # from here on a signal is no exception in the middle of this
        for number, before in self._before.items():
            if before is not None and signal.getsignal(number) != before:
                signal.signal(number, before)
        self.writing -= 1

    def check(self) -> None:
        if self.received is not None and not self.writing:
            raise Stopped(128 + self.received)

    def _handle(self, number: int, _: FrameType | None) -> None:
        now = monotonic()
        if self.received is not None and now - self._since < PATIENCE:
            return  # it is ending, and what it puts back must not be cut short
        self.received, self._since = self.received or number, now
        self.check()


_handlers: _Handlers | None = None


@contextmanager
def exit_codes(*others: signal.Signals) -> Iterator[bool]:
    """Let Ctrl-C raise ``SystemExit(130)``, SIGTERM ``SystemExit(143)`` and SIGHUP 129.

    Handlers that are the user's own stay; in a thread other than the main one, and inside another
    ``with`` of this kind, all do. What was there before is put back on every path. It gives whether
    this is the outermost one.

    Args:
        others: signals that end the run, too.
    """
    global _handlers
    if _handlers is not None or threading.current_thread() is not threading.main_thread():
        yield _handlers is None or _handlers.thread != threading.get_ident()
        return
    _leave_children_alone()
    handlers = _Handlers(others)
    try:
        _handlers = handlers
        handlers.begin()
        yield True
    finally:
        try:
            handlers.end()
        finally:
            handlers.end()  # the first signal may have come in the first of these lines
            _handlers = None
    handlers.check()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let a signal wait until the ``with`` ends: what is written there is written whole."""
    handlers = _handlers
    if handlers is None:
        yield
        return
    handlers.writing += 1
    try:
        yield
    finally:
        handlers.writing -= 1
    check()


@contextmanager
def told_when_stopped(tell: Callable[[], None]) -> Iterator[None]:
    """Do as ``exit_codes`` does, and ``tell`` when a signal ends the ``with``.

    Inside another ``with`` of this kind nothing is told: that is about the run that was asked for.
    """
    with exit_codes() as outermost:
        try:
            yield
            check()
        except (KeyboardInterrupt, Stopped):
            if outermost:
                with uninterrupted():  # a second signal would end it before it has said a word
                    tell()
            raise


def check() -> None:
    """Raise again what a signal raised and somebody else has swallowed.

    Python drops exceptions in finalizers, and user code may catch everything; an error that
    follows from the signal, such as that of a worker that it killed, is no reason to go on, either.
    """
    if _handlers is not None and _handlers.thread == threading.get_ident():
        _handlers.check()


def received() -> int | None:
    """Return the signal that ends the run, if one has come."""
    return None if _handlers is None else _handlers.received


@functools.cache
def _leave_children_alone() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    """Give a forked child, such as the worker of a dataloader, the handlers of the user."""
    global _handlers
    if _handlers is not None:
        _handlers.end()
        _handlers = None
