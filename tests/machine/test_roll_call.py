"""Who is missing is known of the store, and said in one sentence."""

import datetime

import pytest
import torch.distributed as dist

from lpot_lightning.machine import roll_call
from lpot_lightning.machine.roll_call import RollCall, is_of_an_exchange, is_timeout

GLOO = "[gloo/transport/tcp/unbound_buffer.cc:81] "


@pytest.fixture
def roll(monkeypatch):
    """Return the roll call of the first of three processes, and what the others have noted."""
    store = dist.HashStore()
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    monkeypatch.setattr(roll_call, "_get_default_store", lambda: store)
    monkeypatch.setattr(roll_call, "PATIENCE", 0.1)
    one = RollCall("words", datetime.timedelta(seconds=7))
    one.come(2)
    return one, lambda what, value: store.set(f"lpot_lightning/words/{what}", value)


def test_who_has_not_come_so_far_is_missing(roll):
    one, note = roll
    note(1, "1")
    assert one.missing(0) == [1, 2]
    note(1, "2")
    note(2, "3")
    assert one.missing(0) == []


def test_of_those_that_do_not_come_their_numbers_are_said(roll):
    one, _ = roll
    fault = one.fault(RuntimeError(GLOO + "Timed out waiting 7000ms for recv operation"), 0)
    assert fault.missing == [1, 2]
    assert str(fault).startswith("process 1 or 2 of 3 did not come within 7 s, the `timeout` of")


def test_what_one_has_waited_for_is_late_for_all(roll):
    one, note = roll
    note(2, "2")
    closed = RuntimeError(GLOO + "Connection closed by peer")
    assert str(one.fault(closed, 0)) == (
        "process 1 of 3 has ended, or does not answer; its own message says why"
    )
    note("late", "yes")
    assert "process 1 of 3 did not come within 7 s" in str(one.fault(closed, 0))


def test_where_all_are_there_they_have_not_met(roll):
    one, note = roll
    note(1, "2")
    note(2, "2")
    assert "does not reach the others any more" in str(one.fault(RuntimeError("closed"), 0))
    late = one.fault(dist.DistStoreError("wait timeout after 7000ms"), 0)
    assert "process 0 of 3 and the others did not meet within 7 s" in str(late)


def test_which_errors_are_about_other_processes():
    assert is_timeout(RuntimeError(GLOO + "Timed out waiting"))
    assert is_timeout(dist.DistStoreError("wait timeout after 4000ms, keys: /0"))
    assert not is_timeout(RuntimeError("the request for a picture timed out"))
    assert is_of_an_exchange(RuntimeError(GLOO + "Connection closed by peer"))
    assert not is_of_an_exchange(ValueError("gloo"))
