"""What people see of a pruning."""

import os
from dataclasses import replace
from pathlib import Path

from report_scenes import ABOUT, facts

from lpot_lightning.pruning.pruners import LayerSparsity
from lpot_lightning.report.page import is_of_both, page
from lpot_lightning.runs.pruning_result import PruningResult, read_pruning_result
from lpot_lightning.training_log import SparsityLog, TrainingLog
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


def page_in(folder, **given):
    """Write the page of a workspace, as of long ago: copies of files have any time."""
    path = folder / "report.html"
    path.write_bytes(page(facts(pruning=RESULT.pruning_facts(), **given)))
    os.utime(path, (1, 1))
    return path.read_bytes()


def test_the_page_of_an_int8_run_that_followed_is_left(tmp_path):
    written = page_in(tmp_path)
    for name in ("history.jsonl", "pruning_result.json"):
        (tmp_path / name).touch()
    assert replace(RESULT, workspace=tmp_path).report().read_bytes() == written


def test_the_page_is_replaced_where_the_int8_run_was_before(tmp_path):
    written = page_in(tmp_path)
    (tmp_path / "history.jsonl").touch()
    other = replace(RESULT, workspace=tmp_path, accuracy=0.92)
    assert other.report().read_bytes() != written


def test_a_result_that_was_read_is_the_one_that_was_written(tmp_path):
    log = TrainingLog(sparsity=(SparsityLog(unit="epoch", at=1, layers={"fc.weight": 0.5}),))
    cut = {"fc.weight": ((8, 8), (4, 8))}
    given = replace(RESULT, workspace=tmp_path, baseline=1, training=log, cut=cut, about=ABOUT)
    page_of_both = page(facts(pruning=given.pruning_facts()))
    path = tmp_path / "pruning_result.json"
    path.write_bytes(given.to_json())
    assert is_of_both(page_of_both, read_pruning_result(path).pruning_facts())
