"""The table and the JSON of a benchmark."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lpot_lightning.timing.percentiles import Latency, Speed
from lpot_lightning.timing.result import BenchmarkResult, InstanceResult, in_short_ranges

INT8 = Speed(
    iterations=40,
    batch_size=8,
    latency=Latency(1, 1.5, 2),
    latency_per_sample=Latency(0.125, 0.1875, 0.25),
    throughput=7654.3,
)
FP32 = Speed(
    iterations=40,
    batch_size=8,
    latency=Latency(3, 3.5, 4),
    latency_per_sample=Latency(0.375, 0.4375, 0.5),
    throughput=2543.2,
)
ALONE = BenchmarkResult(name="net", label="model", threads=2, warmup=5, speed=INT8)
PAIR = replace(
    ALONE,
    label="int8",
    fp32=FP32,
    speedup=3.0,
    speedup_spread=(2.9, 3.2),
    accuracy=0.9,
    fp32_accuracy=0.91,
)
EACH = InstanceResult((0, 1), 2, replace(INT8, iterations=20), replace(FP32, iterations=20))
SEVERAL = replace(PAIR, instances=(EACH, replace(EACH, cores=(2, 3))))
CALLS = Speed(
    iterations=20,
    batch_size=None,
    latency=Latency(10, 11, 12),
    latency_per_sample=None,
    throughput=None,
)
ACCURACY = BenchmarkResult(name="net", label="model", threads=2, warmup=0, accuracy=0.9)


def test_one_model():
    assert ALONE.table() == (
        "                              model\n"
        "batch size                    8\n"
        "ms a batch, p50 / p90 / p99   1.00 / 1.50 / 2.00\n"
        "ms a sample, p50 / p90 / p99  0.125 / 0.188 / 0.250\n"
        "samples a second              7,654\n"
        "name                          net\n"
        "calls                         40 after 5 of warm-up\n"
        "threads                       2"
    )


def test_two_models_in_two_instances():
    assert SEVERAL.table() == (
        "                              int8                   fp32\n"
        "batch size                    8                      8\n"
        "ms a batch, p50 / p90 / p99   1.00 / 1.50 / 2.00     3.00 / 3.50 / 4.00\n"
        "ms a sample, p50 / p90 / p99  0.125 / 0.188 / 0.250  0.375 / 0.438 / 0.500\n"
        "samples a second              7,654                  2,543\n"
        "accuracy                      0.9000                 0.9100\n"
        "speed-up                      3.00x (2.90x to 3.20x)\n"
        "name                          net\n"
        "calls                         20 after 5 of warm-up in each of 2 instances, in turns\n"
        "threads                       2 each\n"
        "\n"
        "instance  cores  int8: ms, p50 / p90 / p99  samples/s  fp32: ms, p50 / p90 / p99"
        "  samples/s\n"
        "1         0-1    1.00 / 1.50 / 2.00         7,654      3.00 / 3.50 / 4.00"
        "         2,543\n"
        "2         2-3    1.00 / 1.50 / 2.00         7,654      3.00 / 3.50 / 4.00"
        "         2,543\n"
        "all              1.00 / 1.50 / 2.00         7,654      3.00 / 3.50 / 4.00"
        "         2,543"
    )


def test_a_function_that_shows_no_samples():
    table = replace(ALONE, speed=CALLS).table()
    assert "ms a call, p50 / p90 / p99  10.0 / 11.0 / 12.0" in table
    assert "sample" not in table


def test_accuracy_alone():
    assert ACCURACY.table() == ("          model\naccuracy  0.9000\nname      net\nthreads   2")


@pytest.mark.parametrize(
    "result", [ALONE, PAIR, SEVERAL, ACCURACY, replace(ALONE, speed=CALLS)], ids=str
)
def test_json_and_back(result):
    assert BenchmarkResult.from_json(result.to_json()) == result


def test_what_is_asked_of_it_directly():
    assert (PAIR.latency, PAIR.throughput) == (INT8.latency, 7654.3)
    assert PAIR.latency_per_sample == INT8.latency_per_sample


@pytest.mark.parametrize(
    ("numbers", "shown"), [((), ""), ((4,), "4"), ((0, 1, 2, 8, 5, 4), "0-2,4-5,8")]
)
def test_cores_in_short(numbers, shown):
    assert in_short_ranges(numbers) == shown
