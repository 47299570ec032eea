"""The table and the JSON of a benchmark."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from lpot_lightning.timing.percentiles import Latency, Speed
from lpot_lightning.timing.result import (
    BenchmarkResult,
    FileResult,
    InstanceResult,
    in_short_ranges,
)

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
EACH = InstanceResult(
    cores=(0, 1),
    threads=2,
    speed=replace(INT8, iterations=20),
    fp32=replace(FP32, iterations=20),
)
SEVERAL = replace(PAIR, instances=(EACH, replace(EACH, cores=(2, 3))))
FILE = FileResult(
    label="int8.onnx",
    runtime="ONNX Runtime 1.32.0",
    speed=INT8,
    speedup=4.0,
    speedup_spread=(3.9, 4.1),
    accuracy=0.89,
)
WITH_FILE = replace(
    SEVERAL,
    files=(FILE,),
    instances=tuple(replace(one, files=(one.speed,)) for one in SEVERAL.instances),
)
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
        "calls                         20 after 5 of warm-up in each of 2 instances, in\n"
        "                              turns\n"
        "threads                       2 each\n"
        "\n"
        "instance  cores  int8: ms, p50 / p90 / p99  samples/s\n"
        "1         0-1    1.00 / 1.50 / 2.00         7,654\n"
        "2         2-3    1.00 / 1.50 / 2.00         7,654\n"
        "all              1.00 / 1.50 / 2.00         7,654\n"
        "\n"
        "instance  cores  fp32: ms, p50 / p90 / p99  samples/s\n"
        "1         0-1    3.00 / 3.50 / 4.00         2,543\n"
        "2         2-3    3.00 / 3.50 / 4.00         2,543\n"
        "all              3.00 / 3.50 / 4.00         2,543"
    )


def test_a_wide_terminal_is_used(monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    heads = [line for line in SEVERAL.table().split("\n") if line.startswith("instance")]
    assert len(heads) == 1
    assert "fp32: ms" in heads[0]


def test_no_line_is_wider_than_a_terminal_of_80_columns():
    many = replace(WITH_FILE, files=WITH_FILE.files * 3)
    assert max(map(len, many.table().split("\n"))) <= 80


def test_print_shows_a_line_for_each_that_was_timed():
    assert str(SEVERAL) == (
        "int8: 1 ms a batch of 8, 7,654 samples a second, accuracy 0.9000,"
        " speed-up 3.00x (2.90x to 3.20x)\n"
        "fp32: 3 ms a batch of 8, 2,543 samples a second, accuracy 0.9100"
    )
    assert str(ACCURACY) == "model: accuracy 0.9000"


def test_as_a_part_of_others_it_is_one_line():
    assert repr([ALONE]) == "[<BenchmarkResult: model: 1 ms a batch of 8, 7,654 samples a second>]"


def test_a_notebook_shows_a_head_and_rows():
    page = SEVERAL._repr_html_()
    assert page.count("<table") == 2
    assert ">fp32</th>" in page
    assert ">0.9100</td>" in page


def test_files_have_columns_of_their_own(monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    lines = WITH_FILE.table().splitlines()
    rows = {row[0]: row[1:] for row in (re.split(" {2,}", line) for line in lines if line)}
    speedups = next(line for line in lines if line.startswith("speed-up"))
    assert rows[""] == ["int8", "fp32", "int8.onnx"]
    assert rows["samples a second"] == ["7,654", "2,543", "7,654"]
    assert rows["accuracy"] == ["0.9000", "0.9100", "0.8900"]
    assert rows["speed-up"] == ["3.00x (2.90x to 3.20x)", "4.00x (3.90x to 4.10x)"]
    assert speedups.index("4.00x") == lines[0].index("int8.onnx")
    assert rows["runtime"] == ["int8.onnx in ONNX Runtime 1.32.0"]
    assert rows["instance"][5:] == ["int8.onnx: ms, p50 / p90 / p99", "samples/s"]
    for name in ("2", "all"):
        assert rows[name][-2:] == ["1.00 / 1.50 / 2.00", "7,654"]


def test_a_file_alone_and_one_beside_a_model():
    alone = replace(ALONE, label="int8.onnx", runtime="ONNX Runtime 1.32.0")
    assert "runtime                       int8.onnx in ONNX Runtime 1.32.0\n" in alone.table()
    beside = replace(ALONE, files=(FILE,)).table()
    assert "speed-up                                             4.00x (3.90x to 4.10x)\n" in beside
    assert "40 after 5 of warm-up, in turns" in beside


def test_a_function_that_shows_no_samples():
    table = replace(ALONE, speed=CALLS).table()
    assert "ms a call, p50 / p90 / p99  10.0 / 11.0 / 12.0" in table
    assert "sample" not in table


def test_accuracy_alone():
    assert ACCURACY.table() == ("          model\naccuracy  0.9000\nname      net\nthreads   2")


@pytest.mark.parametrize(
    "result", [ALONE, PAIR, SEVERAL, WITH_FILE, ACCURACY, replace(ALONE, speed=CALLS)], ids=str
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
