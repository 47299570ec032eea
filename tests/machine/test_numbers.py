"""Numbers for people."""

import math

import pytest

from lpot_lightning.machine.numbers import drop_and_allowed, shown_number, shown_size, told_apart


@pytest.mark.parametrize(
    ("one", "other", "shown"),
    [
        (0.92, 0.93, ("0.9200", "0.9300")),
        (0.93, 0.93, ("0.9300", "0.9300")),
        (3.32164, 3.32161, ("3.32164", "3.32161")),
        (0.00001234, 0.000012341, ("1.2340e-05", "1.2341e-05")),
        (-0.5, -0.5000001, ("-0.5000000", "-0.5000001")),
        (123456.00001, 123456.00002, ("123456.00001", "123456.00002")),
        (math.nan, math.nan, ("nan", "nan")),
    ],
)
def test_two_numbers_that_are_compared_do_not_look_the_same(one, other, shown):
    assert told_apart(one, other) == shown


@pytest.mark.parametrize(
    ("drop", "allowed", "shown"),
    [
        (0.0, 0.01, ("0.00%", "1.00%")),
        (-0.00001, 0.01, ("0.00%", "1.00%")),
        (0.00002, 0.00005, ("0.0020%", "0.0050%")),
        (0.0, 0.0000012, ("0.00000%", "0.00012%")),
        (0.0, 0.0, ("0.00%", "0.00%")),
        (0.000004, 0.0, ("0.0004%", "0.0000%")),
        (0.0100004, 0.01, ("1.00004%", "1.00000%")),
        (-0.02, -0.01, ("-2.00%", "-1.00%")),
        (-0.02, -0.02, ("-2.00%", "-2.00%")),
        (math.inf, 0.01, ("inf%", "1.00%")),
    ],
)
def test_a_drop_and_its_limit_have_the_digits_they_need(drop, allowed, shown):
    assert drop_and_allowed(drop, allowed, share=True) == shown


def test_in_the_unit_of_the_metric_there_are_four_digits_or_more():
    assert drop_and_allowed(0.5, 1.0, share=False) == ("0.5000", "1.0000")
    assert drop_and_allowed(0.0, 0.00003, share=False) == ("0.000000", "0.000030")


def test_small_numbers_keep_four_digits_that_count():
    assert [shown_number(one) for one in (0.98765, 0.0, -0.00001, 1234.5)] == [
        "0.9877",
        "0.0000",
        "-1e-05",
        "1234.5000",
    ]


@pytest.mark.parametrize(
    ("count", "decimal", "binary"),
    [
        (0, "0 bytes", "0 bytes"),
        (1023, "1.02 kB", "1023 bytes"),
        (1536, "1.54 kB", "1.5 KiB"),
        (999_700, "999.7 kB", "976 KiB"),
        (3 << 29, "1.61 GB", "1.5 GiB"),
        (1e15, "1000 TB", "909 TiB"),
    ],
)
def test_sizes_have_a_unit_that_fits(count, decimal, binary):
    assert (shown_size(count), shown_size(count, binary=True)) == (decimal, binary)
