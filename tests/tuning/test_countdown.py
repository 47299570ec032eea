"""The time that a trial has left."""

from lpot_lightning.tuning.countdown import Countdown


def test_it_is_over_when_nothing_is_left():
    now = [5.0]
    countdown = Countdown(lambda: now[0])
    assert not countdown.is_over()  # it was not started
    countdown.start(10.0)
    now[0] = 14.9
    assert not countdown.is_over()
    now[0] = 15.0
    assert countdown.is_over()
    countdown.start(None)
    assert not countdown.is_over()


def test_what_is_already_over_is_over_at_once():
    countdown = Countdown(lambda: 1.0)
    countdown.start(-2.0)
    assert countdown.is_over()
