"""Percentiles and throughput of made-up seconds."""

from __future__ import annotations

import pytest

from lpot_lightning.timing.percentiles import Latency, Timed, speed_of


def test_percentiles_are_interpolated_linearly():
    seconds = [one / 1000 for one in range(1, 102)]  # 1 to 101 ms
    latency = Latency.of(seconds)
    assert (latency.p50, latency.p90, latency.p99) == pytest.approx((51, 91, 100))
    assert Latency.of([0.001, 0.002]).p90 == pytest.approx(1.9)


def test_one_call_is_all_percentiles():
    assert Latency.of([0.004]) == Latency(4, 4, 4)


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [
        (0.0004, "0.000400"),
        (0.01234, "0.0123"),
        (0.1, "0.100"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (123.4, "123"),
        (12345.6, "12,346"),
    ],
)
def test_three_digits_that_count(milliseconds, shown):
    assert str(Latency(milliseconds, 1, 1)) == f"{shown} / 1.00 / 1.00"


def test_throughput_counts_all_samples_in_all_seconds():
    speed = speed_of([Timed((0.1, 0.3), (10, 20))])
    assert (speed.iterations, speed.batch_size) == (2, 10)
    assert speed.throughput == pytest.approx(75)
    assert speed.latency_per_sample.p50 == pytest.approx(12.5)


def test_processes_are_summed_and_their_calls_pooled():
    speed = speed_of([Timed((0.1, 0.1), (8, 8)), Timed((0.2, 0.2), (8, 8))])
    assert speed.throughput == pytest.approx(80 + 40)
    assert (speed.iterations, speed.latency.p50) == (4, pytest.approx(150))


def test_without_samples_there_is_no_throughput():
    speed = speed_of([Timed((0.1,), (0,))])
    assert (speed.batch_size, speed.latency_per_sample, speed.throughput) == (None, None, None)
