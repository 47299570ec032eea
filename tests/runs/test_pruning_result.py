"""What people see of a pruning."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from lpot_lightning.pruning.pruners import LayerSparsity
from lpot_lightning.runs.pruning_result import PruningResult
from lpot_lightning.tuning.score import Criterion

LAYER = LayerSparsity(name="fc.weight", shape=(4, 8), sparsity=0.5, target=0.5, pattern="2:4")
RESULT = PruningResult(
    status="met",
    reached=True,
    monitor="val_acc",
    criterion=Criterion(0.01, True, True),
    baseline=0.9,
    accuracy=0.91,
    layers=(LAYER,),
    unprunable={},
    parameters=(32, 32),
    macs=None,
    speedup=None,
    workspace=Path("workspace").resolve(),
)


def test_print_says_what_came_of_it_in_a_few_lines():
    first, second, third = str(RESULT).split("\n")
    told = "pruned val_acc 0.9100, dense 0.9000: the goal is met (drop -1.11%, allowed 1.00%)"
    assert first == told
    assert second == "50.00% of the pruned weights are zero"
    assert third.startswith("files in ")


def test_channels_that_were_cut_are_told():
    cut = replace(RESULT, parameters=(3200, 1600), macs=(10, 5), speedup=1.5)
    assert ", parameters 3,200 -> 1,600, speed-up 1.50x" in str(cut).split("\n")[1]


def test_a_target_that_is_not_reached_is_told_first():
    assert ": the target sparsity is not reached" in repr(replace(RESULT, reached=False))


def test_a_long_parameter_name_leaves_the_table_in_80_columns():
    name = f"model.{'encoder.' * 8}weight"
    table = replace(RESULT, layers=(replace(LAYER, name=name),)).table()
    assert max(map(len, table.split("\n"))) <= 80
    assert "2:4" in table


def test_a_notebook_shows_a_table():
    assert ">50.00% of the pruned weights</td>" in RESULT._repr_html_()


@pytest.mark.parametrize(("pruned_at", "is_left"), [(1, True), (3, False)])
def test_the_page_of_an_int8_run_is_left_where_that_came_later(tmp_path, pruned_at, is_left):
    times = {"report.html": 2, "history.jsonl": 2, "pruning_result.json": pruned_at}
    for name, seconds in times.items():
        (tmp_path / name).write_text("of both")
        os.utime(tmp_path / name, (seconds, seconds))
    page = replace(RESULT, workspace=tmp_path).report()
    assert (page.read_text() == "of both") is is_left
