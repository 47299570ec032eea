"""Ctrl-C and SIGTERM are exit codes, not in a write, and handlers are put back."""

import contextlib
import os
import signal
import threading

import pytest

from lpot_lightning.machine import signals
from lpot_lightning.machine.signals import (
    check,
    exit_codes,
    received,
    told_when_stopped,
    uninterrupted,
)

ALL = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
BOTH = pytest.mark.parametrize("number", ALL)


def handlers():
    return [signal.getsignal(number) for number in (*ALL, signal.SIGUSR1)]


@pytest.fixture(autouse=True)
def _as_before():
    before = handlers()
    yield
    assert handlers() == before


def code_of(work):
    with pytest.raises(SystemExit) as ended, exit_codes():
        work()
    return ended.value.code


def swallowed(number):
    with contextlib.suppress(BaseException):
        signal.raise_signal(number)


@BOTH
def test_the_exit_code_is_that_of_the_signal(number):
    assert code_of(lambda: signal.raise_signal(number)) == 128 + number


@BOTH
def test_it_waits_for_a_write(number):
    done = []

    def work():
        with uninterrupted():
            signal.raise_signal(number)
            done.append("written")
        done.append("never")

    assert code_of(work) == 128 + number
    assert done == ["written"]


def test_an_error_in_a_write_is_told_first():
    def work():
        with uninterrupted():
            signal.raise_signal(signal.SIGTERM)
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"), exit_codes():
        work()


@BOTH
def test_one_that_was_swallowed_is_raised_again(number):
    def work():
        swallowed(number)
        check()
        raise AssertionError("it went on")

    assert code_of(work) == 128 + number


def test_at_the_latest_when_the_run_ends():
    assert code_of(lambda: swallowed(signal.SIGTERM)) == 143


def test_a_second_one_does_not_cut_short_what_ends():
    put_back = []

    def work():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGINT)
            put_back.append("everything")

    assert code_of(work) == 143
    assert put_back == ["everything"]


def test_after_a_while_it_does(monkeypatch):
    monkeypatch.setattr(signals, "PATIENCE", 0)

    def work():
        swallowed(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("it went on")

    assert code_of(work) == 143


def test_handlers_of_the_user_stay_and_are_called():
    called = []
    before = signal.signal(signal.SIGTERM, lambda *_: called.append("mine"))
    try:
        with exit_codes():
            signal.raise_signal(signal.SIGTERM)
            check()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert called == ["mine"]


def test_a_hangup_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with exit_codes():
            signal.raise_signal(signal.SIGHUP)
            check()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_signal_ends_it_only_where_that_is_asked_for():
    with exit_codes():
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    seen = []

    def work():
        with exit_codes(signal.SIGUSR1):
            try:
                seen.append(received())
                signal.raise_signal(signal.SIGUSR1)
            finally:
                seen.append(received())

    assert code_of_told(work) == 128 + signal.SIGUSR1
    assert [*seen, received()] == [None, signal.SIGUSR1, None]


def test_what_somebody_else_puts_there_meanwhile_is_undone():
    with exit_codes():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as Lightning does for good


def test_one_inside_another_is_the_same_one():
    def work():
        with exit_codes():
            assert handlers()[0] is not signal.default_int_handler
        signal.raise_signal(signal.SIGINT)

    assert code_of(work) == 130


def test_in_another_thread_nothing_is_touched():
    seen = []

    def work():
        with exit_codes(), uninterrupted():
            seen.append(handlers())
        check()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [handlers()]


def test_a_forked_child_has_the_users_handlers():
    before = handlers()
    with exit_codes():
        child = os.fork()
        if not child:
            os._exit(int(handlers() != before))
        assert os.waitpid(child, 0)[1] == 0
        assert handlers() != before


@BOTH
def test_it_is_told_once_whatever_comes_meanwhile(number):
    told = []

    def tell():
        signal.raise_signal(number)
        told.append("outer")

    def work():
        with told_when_stopped(tell), told_when_stopped(lambda: told.append("inner")):
            signal.raise_signal(number)

    assert code_of_told(work) == 128 + number
    assert told == ["outer"]


def code_of_told(work):
    with pytest.raises(SystemExit) as ended:
        work()
    return ended.value.code


def test_one_that_was_swallowed_is_told_too():
    told = []

    def work():
        with told_when_stopped(lambda: told.append("stopped")):
            swallowed(signal.SIGTERM)

    assert code_of_told(work) == 143
    assert told == ["stopped"]


def test_without_a_run_nothing_happens():
    with uninterrupted():
        check()
